"""BPE: merges run as the library runs them, closure by route, and mistakes of other tools."""

import json
import random
import shutil

import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer
from vocabulary_helpers import (
    TOPICS,
    byte_bpe,
    make_teacher,
    needs_data,
    real_sentences,
    sentencepiece_bpe,
    swahili_news,
    write_documents,
)

from eliquare import stage
from eliquare.stage import InputError
from eliquare.vocabulary import bpe
from eliquare.vocabulary import reduce as reduction
from eliquare.vocabulary import tokenizer as surgery
from eliquare.vocabulary.checks import check_merges, match_vocabularies
from eliquare.vocabulary.kept import complete
from eliquare.vocabulary.saving import save_tokenizer
from eliquare.vocabulary.verify import verify

pytestmark = needs_data

KINDS = {"roberta": lambda: byte_bpe(True), "mmbert": sentencepiece_bpe}


def frequent_and_specials(folder, tokenizer, texts):
    """Ids of the texts' sub-words that occur twice, and of the special tokens; not closed."""
    counts = {}
    for text in texts:
        for identifier in tokenizer(text, add_special_tokens=False)["input_ids"]:
            counts[identifier] = counts.get(identifier, 0) + 1
    specials = surgery.special_ids(folder, surgery.read_description(folder))
    return {i for i, number in counts.items() if number > 1} | specials


@pytest.mark.parametrize("kind", KINDS)
def test_merges_run_as_in_the_library(kind):
    """Every sub-word alone: the pieces that are left are those of the tokenizers library."""
    description = surgery.describe(KINDS[kind]())
    merges = bpe.Merges(description["model"])
    alone = Tokenizer.from_str(
        json.dumps(
            {"version": "1.0", "truncation": None, "padding": None, "added_tokens": []}
            | dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder"))
            | {"model": description["model"]}
        )
    )
    for subword in bpe.merged_subwords(description).values():
        pieces = merges.characters(subword)
        for pair in merges.taken(subword):
            place = next(n for n in range(len(pieces)) if (pieces[n], pieces[n + 1]) == pair)
            pieces[place : place + 2] = [merges.made_by(pair)]
        assert pieces == alone.encode(subword).tokens


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
    """The library makes the same of the word, so that the marks are read as it reads them."""
    vocabulary = {piece: number for number, piece in enumerate(sorted(route | {"l", "low"}))}
    assert bpe.Merges({"vocab": vocabulary, **options}).route(word) == route
    merges = [tuple(merge) for merge in options["merges"]]
    marks = {key: value for key, value in options.items() if key != "merges"}
    whole = Tokenizer(models.BPE(vocabulary, merges, **marks))
    if not word.startswith("##"):
        assert whole.encode(word.removesuffix("</w>")).tokens == [word]


def test_the_route_need_not_use_the_first_rule_that_makes_a_subword():
    merges = [["a", "b"], ["b", "c"], ["a", "bc"], ["ab", "c"]]
    vocabulary = {p: n for n, p in enumerate(["a", "b", "c", "ab", "bc", "abc"])}
    description = {"model": {"vocab": vocabulary, "merges": merges}, "added_tokens": []}
    closed = bpe.close_by_route(description, [vocabulary["abc"]])
    assert closed == {vocabulary[p] for p in ("a", "b", "c", "ab", "abc")}
    kept = [p for p, n in vocabulary.items() if n in closed]
    assert bpe.cut_merges(description["model"], kept) == [["a", "b"], ["ab", "c"]]


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_kept_pieces_are_cut_as_before(kind, tmp_path):
    """All words of seven languages (eight scripts) against random closed sets."""
    folder = make_teacher(kind, tmp_path / "old")
    tokenizer, description = AutoTokenizer.from_pretrained(folder), surgery.read_description(folder)
    words = {w for code in TOPICS for text in real_sentences(code) for w in text.split()}
    words = sorted(words)
    for seed in range(3):
        drawn = random.Random(seed).sample(range(len(tokenizer)), 700)
        start = dict.fromkeys([*drawn, *surgery.protected_ids(description)], "asked")
        kept = list(complete(start, description, []))
        cut = Tokenizer.from_str(json.dumps(surgery.cut(description, kept)))
        same = 0
        for word in words:
            old = tokenizer.backend_tokenizer.encode(word).ids
            if set(old) <= set(kept):
                same += 1
                assert [kept[i] for i in cut.encode(word).ids] == old, word
        assert same > 500


@pytest.fixture(scope="module", params=KINDS)
def models_of(request, tmp_path_factory):
    """A BPE teacher, its cut form, a text file, and the ids that were asked for."""
    folder = tmp_path_factory.mktemp(request.param)
    old = make_teacher(request.param, folder / "old")
    texts = swahili_news(150)
    (folder / "text.txt").write_text("\n".join(texts), encoding="utf-8")
    asked = frequent_and_specials(old, AutoTokenizer.from_pretrained(old), texts)
    reduction.reduce(old, sorted(asked), folder / "new", folder / "text.txt")
    return folder, asked


def planted(models_of, tmp_path, kept=None, change=lambda model: None):
    """A reduction to exactly these ids, with a change of its BPE model."""
    folder, _ = models_of
    kept = kept or [row[0] for row in kept_rows(folder / "new")]
    description = surgery.read_description(folder / "old")
    tokenizer = surgery.load_tokenizer(folder / "old")
    new = tmp_path / "new"
    new.mkdir()
    save_tokenizer(tokenizer, surgery.cut(description, sorted(kept)), new)
    reduction.cut_model(folder / "old", sorted(kept), new)
    rules = stage.read_json(new / "tokenizer.json")
    change(rules["model"])
    stage.write_json(new / "tokenizer.json", rules)
    return new


def kept_rows(folder):
    lines = (folder / "kept.csv").read_text(encoding="utf-8").splitlines()[1:]
    return [(int(line.split(",", 1)[0]), line.rsplit(",", 1)[1]) for line in lines]


def check(models_of, new):
    return verify(models_of[0] / "old", new, models_of[0] / "text.txt", sentences=10)


def test_the_right_reduction_passes_and_names_its_reasons(models_of, tmp_path):
    folder, asked = models_of
    assert check(models_of, planted(models_of, tmp_path))["hidden_states"]
    reasons = dict(kept_rows(folder / "new"))
    assert {i for i, reason in reasons.items() if reason == "asked"} == asked
    assert {"route", "byte"} & set(reasons.values())


def test_no_closure(models_of, tmp_path):
    description = surgery.read_description(models_of[0] / "old")
    kept = models_of[1] | bpe.alphabet_ids(description)
    with pytest.raises(InputError, match="keep every piece on the way"):
        check(models_of, planted(models_of, tmp_path, kept))


def test_closure_by_the_first_rule_that_makes_a_subword(models_of, tmp_path):
    """Wrong where every split is a rule; in plain BPE the one rule is the right one."""
    description = surgery.read_description(models_of[0] / "old")
    model = description["model"]
    rules = {}
    for left, right in model["merges"]:
        rules.setdefault(left + right, (left, right))
    merges = bpe.Merges(model)
    specials = surgery.special_ids(models_of[0] / "old", description)
    kept = specials | bpe.alphabet_ids(description)
    for subword in list(bpe.merged_subwords(description).values())[::7]:
        closure, waiting = {subword}, [subword]
        while waiting:
            new = set(rules.get(waiting.pop(), ())) - closure
            closure |= new
            waiting += new
        assert closure <= merges.route(subword) or "mmbert" in str(models_of[0])
        kept |= {model["vocab"][piece] for piece in closure}
    new = planted(models_of, tmp_path, kept)
    if "mmbert" in str(models_of[0]):
        with pytest.raises(InputError, match="keep every piece on the way"):
            check(models_of, new)
    else:
        check_merges(new, match_vocabularies(models_of[0] / "old", new))


def test_merges_in_another_order(models_of, tmp_path):
    new = planted(models_of, tmp_path, change=lambda model: model["merges"].sort())
    with pytest.raises(InputError, match="keep the merges in their old order"):
        check(models_of, new)


def test_merges_of_its_own(models_of, tmp_path):
    def change(model):
        known = {"".join(merge) for merge in model["merges"]}
        word = next(p for p in model["vocab"] if len(p) > 3 and p in known)
        listed = {tuple(merge) for merge in model["merges"]}
        pair = next(
            (word[:n], word[n:])
            for n in range(1, len(word))
            if {word[:n], word[n:]} <= set(model["vocab"]) and (word[:n], word[n:]) not in listed
        )
        model["merges"].append(list(pair))

    if "mmbert" in str(models_of[0]):
        pytest.skip("lists every split already")
    with pytest.raises(InputError, match="is not one of the old ones"):
        check(models_of, planted(models_of, tmp_path, change=change))


def test_lost_bytes(models_of, tmp_path):
    """Bytes that the corpus does not have are lost by tools that keep what the corpus has."""
    folder, asked = models_of
    description = surgery.read_description(folder / "old")
    lost = bpe.alphabet_ids(description) - asked
    kept = {i for i, _ in kept_rows(folder / "new")} - lost
    if "mmbert" in str(folder):
        # Bytes are protected there, so the planted copy must drop them from the finished file.
        new = tmp_path / "new"
        shutil.copytree(folder / "new", new)
        rules = stage.read_json(new / "tokenizer.json")
        rules["model"]["vocab"] = {
            ("gone" + p if p == "<0xF3>" else p): i for p, i in rules["model"]["vocab"].items()
        }
        stage.write_json(new / "tokenizer.json", rules)
        with pytest.raises(InputError, match="is not one of the old model's"):
            check(models_of, new)
        return
    with pytest.raises(InputError, match=r"the byte '.' was not kept"):
        check(models_of, planted(models_of, tmp_path, kept))


def test_dropout_is_refused_in_words(tmp_path):
    folder = make_teacher("roberta", tmp_path / "old")
    rules = stage.read_json(folder / "tokenizer.json")
    rules["model"]["dropout"] = 0.1
    stage.write_json(folder / "tokenizer.json", rules)
    with pytest.raises(InputError, match=r"dropout 0\.1.*null"):
        surgery.read_description(folder)


def test_ignored_merges(tmp_path):
    """A tokenizer that takes whole words from its vocabulary first, merges or not (as Llama 3)."""
    folder = make_teacher("modernbert", tmp_path / "old")
    rules = stage.read_json(folder / "tokenizer.json")
    rules["model"]["ignore_merges"] = True
    stage.write_json(folder / "tokenizer.json", rules)
    texts = swahili_news(60)
    documents = write_documents(tmp_path / "documents", texts)
    kept = frequent_and_specials(folder, AutoTokenizer.from_pretrained(folder), texts)
    findings = reduction.reduce(folder, sorted(kept), tmp_path / "new", documents)
    assert findings["texts"]["corpus"]["sentences_run"] > 5
    assert stage.read_json(tmp_path / "new/tokenizer.json")["model"]["ignore_merges"]
