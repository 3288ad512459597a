"""BPE: merges run as the library runs them, closure by route, and mistakes of other tools."""

import csv
import json
import random
import shutil
from collections import Counter

import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer

import worlds
from eliquare.io import InputError, read_json, write_json
from eliquare.models.loading import load_fast_tokenizer
from eliquare.vocabulary import tokenizer as tokenizer_json
from eliquare.vocabulary.reduce import reduce_weights
from eliquare.vocabulary.select import complete
from eliquare.vocabulary.verify import check_merges, compare, match_vocabularies
from families import LANGUAGES, byte_bpe, make_teacher, reduce_model, sentencepiece_bpe, sentences

KINDS = {"roberta": lambda: byte_bpe(True), "mmbert": sentencepiece_bpe}


def frequent_and_specials(folder, tokenizer, texts):
    """Return the ids of tokens that occur twice in the texts, and the special ones; not closed."""
    counts = Counter(
        index for text in texts for index in tokenizer(text, add_special_tokens=False)["input_ids"]
    )
    specials = tokenizer_json.special_ids(folder, tokenizer_json.read_description(folder))
    return {index for index, count in counts.items() if count > 1} | specials


@pytest.mark.parametrize("kind", KINDS)
def test_merges_run_as_in_the_library(kind):
    """Every token alone: what is left are the tokens of the tokenizers library."""
    description = tokenizer_json.describe(KINDS[kind]())
    merges = tokenizer_json.Merges(description["model"])
    alone = Tokenizer.from_str(
        json.dumps(
            {"version": "1.0", "truncation": None, "padding": None, "added_tokens": []}
            | dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder"))
            | {"model": description["model"]}
        )
    )
    for token in tokenizer_json.merged_tokens(description).values():
        pieces = merges.characters(token)
        for pair in merges.taken(token):
            place = next(n for n in range(len(pieces)) if (pieces[n], pieces[n + 1]) == pair)
            pieces[place : place + 2] = [merges.made_by(pair)]
        assert pieces == alone.encode(token).tokens


@pytest.mark.parametrize(
    ("options", "word", "route"),
    [
        (
            {"end_of_word_suffix": "</w>", "merges": [["l", "o"], ["lo", "w</w>"]]},
            "low</w>",
            {"l", "o", "w</w>", "lo", "low</w>"},
        ),
        (
            {"continuing_subword_prefix": "##", "merges": [["##o", "##w"], ["l", "##ow"]]},
            "low",
            {"l", "##o", "##w", "##ow", "low"},
        ),
        (
            {"continuing_subword_prefix": "##", "merges": [["##o", "##w"], ["l", "##ow"]]},
            "##ow",
            {"##o", "##w", "##ow"},
        ),
    ],
)
def test_marks_of_word_ends_and_of_continuation(options, word, route):
    """The library makes the same of the word, so the marks are read as it reads them."""
    vocabulary = {piece: index for index, piece in enumerate(sorted(route | {"l", "low"}))}
    assert tokenizer_json.Merges({"vocab": vocabulary, **options}).route(word) == route
    merges = [tuple(merge) for merge in options["merges"]]
    marks = {key: value for key, value in options.items() if key != "merges"}
    full = Tokenizer(models.BPE(vocabulary, merges, **marks))
    if not word.startswith("##"):
        assert full.encode(word.removesuffix("</w>")).tokens == [word]


def test_the_route_need_not_use_the_first_rule_that_makes_a_token():
    merges = [["a", "b"], ["b", "c"], ["a", "bc"], ["ab", "c"]]
    vocabulary = {p: n for n, p in enumerate(["a", "b", "c", "ab", "bc", "abc"])}
    model = {"type": "BPE", "vocab": vocabulary, "merges": merges}
    description = {"model": model, "added_tokens": []}
    joining = tokenizer_json.closing_ids(description, [vocabulary["abc"]])
    letters = dict.fromkeys((vocabulary[p] for p in "abc"), "character")
    assert joining == letters | {vocabulary["ab"]: "route"}
    reduced = tokenizer_json.reduce(description, sorted({*joining, vocabulary["abc"]}))
    assert reduced["model"]["merges"] == [["a", "b"], ["ab", "c"]]


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_kept_tokens_are_segmented_as_before(kind, tmp_path):
    """All words of all languages against random closed sets."""
    folder = make_teacher(kind, tmp_path / "old")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    description = tokenizer_json.read_description(folder)
    words = sorted({w for code in LANGUAGES for text in sentences(code) for w in text.split()})
    for seed in range(3):
        drawn = random.Random(seed).sample(range(len(tokenizer)), 500)
        start = dict.fromkeys([*drawn, *tokenizer_json.protected_ids(description)], "listed")
        kept = list(complete(start, description))
        reduced = tokenizer_json.backend_of(tokenizer_json.reduce(description, kept))
        same = 0
        for word in words:
            old = tokenizer.backend_tokenizer.encode(word).ids
            if set(old) <= set(kept):
                same += 1
                assert [kept[i] for i in reduced.encode(word).ids] == old, word
        assert same > 200


@pytest.fixture(scope="module", params=KINDS)
def models_of(request, tmp_path_factory):
    """Return a folder with a BPE teacher, its reduced form and a text; and the ids asked for."""
    folder = tmp_path_factory.mktemp(request.param)
    old = make_teacher(request.param, folder / "old")
    texts = sentences("qaa")[:100]
    (folder / "text.txt").write_text("\n".join(texts), encoding="utf-8")
    asked = frequent_and_specials(old, AutoTokenizer.from_pretrained(old), texts)
    selected = dict.fromkeys(sorted(asked), "listed")
    reduce_model(old, selected, folder / "new", folder / "text.txt")
    return folder, asked


def kept_rows(folder):
    """Return the reason of each kept id."""
    with (folder / "vocabulary.csv").open(encoding="utf-8", newline="") as file:
        return {int(row["id"]): row["reason"] for row in csv.DictReader(file)}


def planted(models_of, tmp_path, kept=None, change=lambda model: None):
    """Return a reduction to exactly these ids, with a change of its BPE model."""
    folder, _ = models_of
    kept = sorted(kept or kept_rows(folder / "new"))
    description = tokenizer_json.read_description(folder / "old")
    tokenizer = load_fast_tokenizer(folder / "old")
    new = tmp_path / "new"
    new.mkdir()
    tokenizer_json.save_tokenizer(tokenizer, tokenizer_json.reduce(description, kept), new)
    reduce_weights(folder / "old", kept, new)
    rules = read_json(new / "tokenizer.json")
    change(rules["model"])
    write_json(new / "tokenizer.json", rules)
    return new


def check(models_of, new):
    return compare(models_of[0] / "old", new, models_of[0] / "text.txt", sentences=10)


def test_the_right_reduction_passes_and_names_its_reasons(models_of, tmp_path):
    folder, asked = models_of
    assert check(models_of, planted(models_of, tmp_path))["hidden_states"]
    reasons = kept_rows(folder / "new")
    assert {index for index, reason in reasons.items() if reason == "listed"} == asked
    assert {"route", "byte"} & set(reasons.values())


def test_no_closure(models_of, tmp_path):
    description = tokenizer_json.read_description(models_of[0] / "old")
    kept = models_of[1] | tokenizer_json.alphabet_ids(description)
    with pytest.raises(InputError, match="keep every token on the way"):
        check(models_of, planted(models_of, tmp_path, kept))


def test_closure_by_the_first_rule_that_makes_a_token(models_of, tmp_path):
    """Wrong where every split is a rule; in plain BPE the one rule is the right one."""
    description = tokenizer_json.read_description(models_of[0] / "old")
    model = description["model"]
    rules = {}
    for left, right in model["merges"]:
        rules.setdefault(left + right, (left, right))
    merges = tokenizer_json.Merges(model)
    specials = tokenizer_json.special_ids(models_of[0] / "old", description)
    kept = specials | tokenizer_json.alphabet_ids(description)
    closures = []
    for token in tokenizer_json.merged_tokens(description).values():
        closure, waiting = {token}, [token]
        while waiting:
            new = set(rules.get(waiting.pop(), ())) - closure
            closure |= new
            waiting += new
        closures.append((merges.route(token) <= closure, closure))
    wrong = [closure for right, closure in closures if not right]
    chosen = wrong[:1] or [closure for _, closure in closures[::7]]
    kept |= {model["vocab"][piece] for closure in chosen for piece in closure}
    new = planted(models_of, tmp_path, kept)
    assert bool(wrong) == ("mmbert" in str(models_of[0]))
    if wrong:
        with pytest.raises(InputError, match="keep every token on the way"):
            check(models_of, new)
    else:
        check_merges(new, match_vocabularies(models_of[0] / "old", new))


def test_merges_in_another_order(models_of, tmp_path):
    new = planted(models_of, tmp_path, change=lambda model: model["merges"].sort())
    with pytest.raises(InputError, match="keep the merges in their old order"):
        check(models_of, new)


def test_merges_of_its_own(models_of, tmp_path):
    def change(model):
        listed = {tuple(merge) for merge in model["merges"]}
        pair = next(
            (word[:n], word[n:])
            for word in model["vocab"]
            for n in range(1, len(word))
            if {word[:n], word[n:]} <= set(model["vocab"]) and (word[:n], word[n:]) not in listed
        )
        model["merges"].append(list(pair))

    if "mmbert" in str(models_of[0]):
        pytest.skip("lists every split already")
    with pytest.raises(InputError, match="is not one of the old ones"):
        check(models_of, planted(models_of, tmp_path, change=change))


def test_lost_bytes(models_of, tmp_path):
    """Bytes that the corpus does not have are lost by tools that keep the bytes of the corpus."""
    folder, asked = models_of
    description = tokenizer_json.read_description(folder / "old")
    if "mmbert" in str(folder):
        # Bytes are protected there, so the planted copy must drop them from the finished file.
        new = tmp_path / "new"
        shutil.copytree(folder / "new", new)
        rules = read_json(new / "tokenizer.json")
        rules["model"]["vocab"] = {
            ("gone" + p if p == "<0xF3>" else p): i for p, i in rules["model"]["vocab"].items()
        }
        write_json(new / "tokenizer.json", rules)
        with pytest.raises(InputError, match="is not one of the old model's"):
            check(models_of, new)
        return
    lost = tokenizer_json.alphabet_ids(description) - asked
    kept = set(kept_rows(folder / "new")) - lost
    with pytest.raises(InputError, match=r"the byte '.' was not kept"):
        check(models_of, planted(models_of, tmp_path, kept))


def test_dropout_is_refused(tmp_path):
    folder = make_teacher("roberta", tmp_path / "old")
    rules = read_json(folder / "tokenizer.json")
    rules["model"]["dropout"] = 0.1
    write_json(folder / "tokenizer.json", rules)
    with pytest.raises(InputError, match=r"dropout 0\.1.*null"):
        tokenizer_json.read_description(folder)


def test_ignored_merges(tmp_path):
    """A tokenizer that takes complete words from its vocabulary first, merges or not (Llama 3)."""
    folder = make_teacher("modernbert", tmp_path / "old")
    rules = read_json(folder / "tokenizer.json")
    rules["model"]["ignore_merges"] = True
    write_json(folder / "tokenizer.json", rules)
    texts = sentences("qaa")[:60]
    documents = worlds.write_documents(tmp_path / "documents", texts)
    kept = frequent_and_specials(folder, AutoTokenizer.from_pretrained(folder), texts)
    selected = dict.fromkeys(sorted(kept), "listed")
    findings = reduce_model(folder, selected, tmp_path / "new", documents)
    assert findings["texts"]["corpus"]["sentences_compared"] > 5
    assert read_json(tmp_path / "new/tokenizer.json")["model"]["ignore_merges"]
