"""Selection of sub-words, and the exactness of the reduced tokenizer and model, on real text."""

import csv
import json
import random

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline
from vocabulary_helpers import (
    DATA,
    FAMILIES,
    TOPICS,
    make_teacher,
    needs_data,
    real_sentences,
    swahili_news,
    wordpiece,
    write_counts,
    write_documents,
)

from eliquare import stage
from eliquare.stage import InputError
from eliquare.vocabulary import reduce as reduction
from eliquare.vocabulary import report, select
from eliquare.vocabulary import tokenizer as surgery
from eliquare.vocabulary.counting import read_counts
from eliquare.vocabulary.kept import complete, read_kept, write_kept
from eliquare.vocabulary.texts import conllu_sentences, task_texts

pytestmark = needs_data


@pytest.fixture(scope="module")
def swahili(tmp_path_factory):
    """Documents and counts folders of Swahili news for the small WordPiece teacher."""
    folder = tmp_path_factory.mktemp("swahili")
    texts = swahili_news(300)
    make_teacher("bert", folder / "teacher")
    write_documents(folder / "documents", texts)
    write_counts(folder / "counts", wordpiece(True), texts)
    return folder


def choose(folder, rule, threshold, **options):
    return select.select(folder / "teacher", [corpus(folder)], rule, threshold, **options)


def corpus(folder, teacher="teacher"):
    """Counts and characters of a folder."""
    subwords = surgery.list_subwords(surgery.read_description(folder / teacher))
    characters = list(stage.read_json(folder / "documents" / "characters.json"))
    return read_counts(folder / "counts", subwords), characters


def counted(folder):
    with (folder / "counts" / "counts.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_share_of_sentences_keeps_exactly_the_frequent_ones(swahili):
    rows = choose(swahili, "share_of_sentences", 0.02)
    frequent = {int(r["id"]) for r in counted(swahili) if int(r["sentences"]) >= 0.02 * 300}
    chosen = {i for i, _, reason in rows if reason == "share_of_sentences"}
    assert chosen and chosen <= frequent
    assert frequent <= {i for i, _, _ in rows}
    assert [i for i, _, _ in rows] == sorted(i for i, _, _ in rows)


def test_specials_and_both_forms_of_each_character_stay(swahili):
    kept = {subword: reason for _, subword, reason in choose(swahili, "top_k", 100)}
    vocabulary = wordpiece(True).get_vocab()
    assert all(kept[token] == "special" for token in wordpiece(True).all_special_tokens)
    characters = {c for text in swahili_news(300) for c in text if not c.isspace()}
    forms = {form for c in characters for form in (c, f"##{c}") if form in vocabulary}
    assert forms <= set(kept) and len(forms) > 60


def test_coverage_is_reached_by_the_fewest_subwords(swahili):
    chosen = select.ids_by_rule(
        "coverage",
        0.9,
        counts := corpus(swahili)[0],
        set(),
    )
    total = counts.occurrences.sum()
    covered = counts.occurrences[sorted(chosen)]
    assert covered.sum() >= 0.9 * total > covered.sum() - covered.min()


def test_top_k_and_count(swahili):
    counts, _ = corpus(swahili)
    assert len(select.ids_by_rule("top_k", 50, counts, set())) == 50
    often = select.ids_by_rule("count", 20, counts, set())
    assert counts.occurrences[sorted(often)].min() >= 20


def test_composed_characters_of_normalised_text_are_kept(tmp_path):
    """The corpus writes e and an accent apart; the normaliser (NFKC) composes them."""
    folder = make_teacher("xlmr-other", tmp_path / "teacher")
    description = surgery.read_description(folder)
    vocabulary = surgery.model_vocabulary(description)
    assert "é" in vocabulary
    occurring = [piece for piece in vocabulary if "é" in piece and len(piece) > 2][:1]
    assert vocabulary["é"] in select.character_ids(description, ["e", "\u0301"], occurring)


def test_always_keep(swahili, tmp_path):
    asked = next(
        s for s in reversed(wordpiece(True).convert_ids_to_tokens(range(2500))) if len(s) > 6
    )
    (tmp_path / "list").write_text(f"{asked}\n", encoding="utf-8")
    rows = choose(swahili, "top_k", 100, always_keep=tmp_path / "list")
    assert (asked, "asked") in [row[1:] for row in rows]
    (tmp_path / "list").write_text("qqqqq\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 1.*qqqqq"):
        choose(swahili, "top_k", 100, always_keep=tmp_path / "list")


def test_a_rule_that_keeps_nothing_is_refused(swahili):
    with pytest.raises(InputError, match=r"vocabularies.*count: 1.*lower"):
        choose(swahili, "count", 1e9)


def test_counts_of_another_tokenizer_are_refused(swahili, tmp_path):
    make_teacher("xlmr", tmp_path / "teacher")
    subwords = surgery.list_subwords(surgery.read_description(tmp_path / "teacher"))
    with pytest.raises(InputError, match="count again"):
        read_counts(swahili / "counts", subwords)


def test_kept_file(tmp_path):
    subwords = ["[PAD]", '"', ",", "a\nb", "NA"]
    write_kept(tmp_path / "kept.csv", [(i, s, "character") for i, s in enumerate(subwords)])
    assert list(read_kept(tmp_path / "kept.csv", subwords)) == [0, 1, 2, 3, 4]
    for text, message in [
        ("id,subword,reason\n", "keeps no"),
        ("id,subword,reason\n1,x,special\n", "'x'.*number 1"),
        ("id,subword,reason\n4,NA,special\n4,NA,special\n", "twice"),
        ("NA\nnope\n", "line 2.*'nope' is not"),
    ]:
        (tmp_path / "kept.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            read_kept(tmp_path / "kept.csv", subwords)


@pytest.fixture(scope="module", params=FAMILIES)
def teacher(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    make_teacher(request.param, folder)
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    return folder, AutoTokenizer.from_pretrained(folder), model


def kept_for(folder, tokenizer, texts, extra):
    """All sub-words of the texts, the specials, and some others by chance."""
    kept = surgery.special_ids(folder, surgery.read_description(folder))
    for text in texts:
        kept.update(tokenizer(text)["input_ids"])
    kept.update(extra.sample(range(len(tokenizer)), 200))
    return list(complete(dict.fromkeys(kept, "asked"), surgery.read_description(folder), []))


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10**6), language=st.sampled_from(TOPICS))
@example(seed=0, language="ja")
def test_reduction_is_exact(teacher, tmp_path, seed, language):
    """Random kept sets on real text in eight scripts: same pieces, states and logits.

    Latin, Cyrillic, Devanagari, Bengali, Hebrew; and Japanese, three scripts without spaces.
    """
    folder, tokenizer, model = teacher
    extra = random.Random(seed)
    texts = extra.sample(real_sentences(language), 4)
    kept = kept_for(folder, tokenizer, texts, extra)
    reduction.reduce(folder, kept, tmp_path / "cut")
    small = AutoModelForMaskedLM.from_pretrained(tmp_path / "cut").eval()
    small_tokenizer = AutoTokenizer.from_pretrained(tmp_path / "cut")
    assert small.config.vocab_size == len(small_tokenizer) == len(kept)
    unigram = surgery.read_description(folder)["model"]["type"] == "Unigram"
    for text in texts:
        if tokenizer.unk_token in tokenizer.tokenize(text) and not unigram:
            continue
        old = tokenizer(text, truncation=True, return_tensors="pt")
        new = small_tokenizer(text, truncation=True, return_tensors="pt")
        assert [kept[i] for i in new["input_ids"][0]] == old["input_ids"][0].tolist()
        with torch.no_grad():
            before = model(**old, output_hidden_states=True)
            after = small(**new, output_hidden_states=True)
        for one, other in zip(before.hidden_states, after.hidden_states, strict=True):
            assert torch.equal(one, other)
        torch.testing.assert_close(after.logits, before.logits[..., kept], rtol=1e-5, atol=1e-5)


def test_reduced_folder_loads_alone_and_fills_masks_in_the_same_order(teacher, tmp_path):
    folder, tokenizer, _ = teacher
    texts = real_sentences("fr")[:20]
    kept = kept_for(folder, tokenizer, texts, random.Random(1))
    reduction.reduce(folder, kept, tmp_path / "cut", write_documents(tmp_path / "d", texts))
    names = {path.name for path in (tmp_path / "cut").iterdir()}
    assert not names & {"vocab.txt", "sentencepiece.bpe.model"}
    assert {"provenance.json", "README.md", "tokenizer.json", "verification.json"} <= names
    words = texts[0].split()
    text = " ".join([*words[:3], tokenizer.mask_token, *words[4:8]])
    old = pipeline("fill-mask", str(folder))(text, top_k=len(tokenizer))
    new = pipeline("fill-mask", str(tmp_path / "cut"))(text, top_k=50)
    stay = set(kept)
    order = [row["token"] for row in old if row["token"] in stay][:50]
    assert [kept[row["token"]] for row in new] == order


def test_pairs_and_special_ids(teacher, tmp_path):
    folder, tokenizer, model = teacher
    kept = kept_for(folder, tokenizer, real_sentences("uk")[:2], random.Random(2))
    reduction.reduce(folder, kept, tmp_path / "cut")
    small = AutoTokenizer.from_pretrained(tmp_path / "cut")
    pair = real_sentences("uk")[:2]
    assert [kept[i] for i in small(*pair)["input_ids"]] == tokenizer(*pair)["input_ids"]
    config = AutoModelForMaskedLM.from_pretrained(tmp_path / "cut").config
    assert kept[config.pad_token_id] == model.config.pad_token_id
    assert kept[small.mask_token_id] == tokenizer.mask_token_id


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_stored_precision_stays(tmp_path, dtype):
    folder = make_teacher("bert", tmp_path / "teacher", dtype)
    reduction.reduce(folder, range(500), tmp_path / "cut")
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "cut").dtype == dtype


def test_reduction_is_repeatable(tmp_path):
    folder = make_teacher("bert", tmp_path / "teacher")
    for name in ("one", "two"):
        reduction.reduce(folder, range(500), tmp_path / name)
    assert stage.checksum(tmp_path / "one") == stage.checksum(tmp_path / "two")


def test_everything_kept_changes_no_weight(tmp_path):
    folder = make_teacher("distilbert", tmp_path / "teacher")
    reduction.reduce(folder, range(2500), tmp_path / "cut")
    old, new = (AutoModelForMaskedLM.from_pretrained(p) for p in (folder, tmp_path / "cut"))
    for name, tensor in old.state_dict().items():
        assert torch.equal(tensor, new.state_dict()[name])


def test_generation_config_is_renumbered(tmp_path):
    folder = make_teacher("bert-padded", tmp_path / "teacher")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    values = {"pad_token_id": 0, "eos_token_id": [tokenizer.sep_token_id]}
    (folder / "generation_config.json").write_text(json.dumps(values))
    kept = sorted({*tokenizer.all_special_ids, *range(100, 500)})
    reduction.reduce(folder, kept, tmp_path / "cut")
    new = stage.read_json(tmp_path / "cut" / "generation_config.json")
    assert kept[new["eos_token_id"][0]] == tokenizer.sep_token_id


def test_kept_without_specials_is_refused(tmp_path):
    folder = make_teacher("bert", tmp_path / "teacher")
    with pytest.raises(InputError, match=r"\[CLS\]"):
        reduction.reduce(folder, range(100, 500), tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


def test_unknown_penalty_of_unigram_hangs_on_no_subword_that_left():
    description = {
        "model": {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [["<unk>", 0.0], ["a", -1.0], ["b", -9.0]],
        },
        "added_tokens": [{"id": 0, "content": "<unk>"}],
    }
    assert surgery.cut(description, [0, 1])["model"]["vocab"] == [["<unk>", -9.0], ["a", -1.0]]


def test_report(swahili, tmp_path):
    rows = choose(swahili, "share_of_sentences", 0.02)
    write_kept(tmp_path / "kept.csv", rows)
    reduction.reduce(swahili / "teacher", [row[0] for row in rows], tmp_path / "cut")
    result = report.report(
        swahili / "teacher",
        tmp_path / "cut",
        tmp_path / "kept.csv",
        swahili / "counts",
        swahili / "documents",
        {"ner": str(DATA / "tasks/sw/ner/test.txt")},
    )
    assert result["sub_words"]["kept"] == len(rows) < result["sub_words"]["of"] == 2500
    saved = result["parameters"]["before"] - result["parameters"]["after"]
    assert saved == (2500 - len(rows)) * (24 + 1)
    assert 0.9 < result["share_of_running_text"] < 1
    corpus = result["texts"]["corpus"]
    assert corpus["after"]["sub_words_per_word"] > corpus["before"]["sub_words_per_word"] > 1
    assert corpus["after"]["unknown_share"] == pytest.approx(
        corpus["before"]["unknown_share"], abs=1e-4
    )
    assert "ner" in report.table(result)


def test_task_texts_are_words_without_labels():
    ner = list(task_texts(DATA / "tasks/sw/ner/test.txt"))
    assert "O" not in ner and "B-PER" not in " ".join(ner).split()
    french = DATA / "tasks/fr/upos/dev.conllu"
    texts = [
        line.removeprefix("# text = ")
        for line in french.read_text(encoding="utf-8").splitlines()
        if line.startswith("# text = ")
    ]
    words = list(task_texts(french))
    assert len(words) == len(texts)
    # Multiword tokens ("du") stand as written, so nothing but spaces differs.
    assert "".join(words[5].split()) == "".join(texts[5].split())


def test_conllu_multiword_tokens_and_empty_nodes():
    lines = ["1-2\tdu\t_", "1\tde\t_", "2\tle\t_", "2.1\tx\t_", "3\tchat\t_", "", "1\tOui\t_"]
    assert list(conllu_sentences(lines)) == ["du chat", "Oui"]
