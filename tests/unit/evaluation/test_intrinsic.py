"""Scores without labels: exact, whatever the tokenizer, the batches and the length of a text."""

import json
import math
import shutil

import pytest
import regex
import torch
from transformers import AutoModel, AutoModelForMaskedLM

import families
from eliquare.evaluation import examples, intrinsic
from eliquare.evaluation.intrinsic import Scorer, segment
from eliquare.io import InputError, write_json
from eliquare.models.loading import load_fast_tokenizer
from eliquare.models.sentence import Sentence, write_sentence

KINDS = ["bert", "distilbert", "xlmr", "roberta", "mmbert", "deberta"]
WORDS = regex.compile(r"[\p{Han}\p{Hiragana}]|[\p{L}\p{M}\p{N}]+|[^\p{L}\p{M}\p{N}\s]")


@pytest.fixture(scope="module", params=KINDS)
def scorer(request, tmp_path_factory) -> Scorer:
    folder = families.make_teacher(request.param, tmp_path_factory.mktemp("model") / request.param)
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float64)
    return Scorer(model, load_fast_tokenizer(folder))


def texts() -> list[str]:
    lines = [families.sentences(language)[3] for language in families.LANGUAGES]
    return [*lines, f"{lines[0]} ({lines[1]})", "ab"]


def plain_score(scorer: Scorer, text: str) -> float:
    """One input for each token, alone: it and the later tokens of its word are masked."""
    tokenizer = scorer.tokenizer
    encoding = tokenizer(text, return_offsets_mapping=True)
    ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
    inside = [place for place, token in enumerate(ids) if token not in tokenizer.all_special_ids]
    word_at = {
        place: number
        for number, word in enumerate(WORDS.finditer(text))
        for place in range(*word.span())
    }

    def word(place: int) -> int:
        begin = offsets[place][0]
        return next(word_at[at] for at in range(begin, len(text)) if at in word_at)

    room = scorer.capacity
    total = 0.0
    for number, place in enumerate(inside):
        masked = list(ids)
        for later in inside[number:]:
            if word(later) == word(place):
                masked[later] = tokenizer.mask_token_id
        start = max(min(number - room // 2, len(inside) - room), 0)
        window = [masked[at] for at in inside[start : start + room]]
        begin, end = ids[: inside[0]], ids[inside[-1] + 1 :]
        logits = scorer.model(torch.tensor([begin + window + end])).logits[0]
        at = len(begin) + number - start
        total += float(logits[at].log_softmax(-1)[ids[place]])
    return total


def scores(scorer: Scorer, lines: list[str]) -> list[float]:
    return scorer.log_likelihoods([segment(scorer.tokenizer, line).words for line in lines])


def test_scores_equal_a_plain_loop_over_the_tokens(scorer):
    with torch.inference_mode():
        expected = [plain_score(scorer, text) for text in texts()]
    assert scores(scorer, texts()) == pytest.approx(expected, rel=1e-9)


def test_batches_change_nothing(scorer):
    one_by_one = Scorer(scorer.model, scorer.tokenizer, tokens_per_batch=1)
    assert scores(one_by_one, texts()) == pytest.approx(scores(scorer, texts()), rel=1e-9)


def test_a_long_text_is_read_in_windows_around_each_token(scorer, monkeypatch):
    short, long = "reka teče", " ".join(families.sentences("qaa")[:2])
    monkeypatch.setattr(scorer, "capacity", 21)
    monkeypatch.setattr(scorer, "windowed", 0)
    found = scores(scorer, [short, long])
    assert scorer.windowed == 1
    with torch.inference_mode():
        assert found == pytest.approx([plain_score(scorer, text) for text in (short, long)])


def test_words_are_the_same_for_every_tokenizer(scorer):
    for text in ("reka teče, a ne spi.", "あ丁あ丁。"):
        words = segment(scorer.tokenizer, text).words
        assert len(words) <= len(WORDS.findall(text))
        ids = scorer.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert [token for word in words for token in word] == ids
    assert len(segment(scorer.tokenizer, "reka teče, a ne spi.").words) == 7


def test_the_mean_over_characters_is_in_bits(scorer):
    lines = texts()[:2]
    expected = -sum(scores(scorer, lines)) / math.log(2) / sum(map(len, lines))
    found = scorer.score(lines)
    assert found["bits_per_character"] == pytest.approx(expected)
    assert [text["characters"] for text in found["texts"]] == [len(line) for line in lines]
    bits = [-score / math.log(2) for score in scores(scorer, lines)]
    assert [text["bits"] for text in found["texts"]] == pytest.approx(bits)


# Examples for people


def spaceless(text: str) -> str:
    return "".join(text.split())


def test_one_mask_stands_for_the_whole_word(scorer):
    clozes = examples.draw_clozes(texts())
    spaced = [cloze for cloze in clozes if cloze.end - cloze.start >= examples.MIN_LETTERS]
    assert spaced
    for cloze in spaced:
        row = scorer.with_mask(cloze)
        parts = row.input_ids[: row.place], row.input_ids[row.place + 1 :]
        assert row.input_ids[row.place] == scorer.tokenizer.mask_token_id
        before, after = (scorer.tokenizer.decode(ids, skip_special_tokens=True) for ids in parts)
        assert spaceless(before) == spaceless(cloze.text[: cloze.start])
        assert spaceless(after) == spaceless(cloze.text[cloze.end :])


def test_answers_are_the_most_probable_tokens(scorer):
    cloze = examples.draw_clozes(texts())[0]
    (answered,) = scorer.answers([cloze])
    assert answered["before"] + answered["word"] + answered["after"] == cloze.text
    row = scorer.with_mask(cloze)
    logits = scorer.model(torch.tensor([row.input_ids])).logits[0, row.place].detach()
    expected = logits.softmax(-1).sort(descending=True).values[:5].tolist()
    found = [answer["probability"] for answer in answered["answers"]]
    assert found == pytest.approx(expected, abs=1e-5)
    assert all(answer["token"] for answer in answered["answers"])


def test_long_words_are_cut_into_their_own_letters(scorer):
    words = examples.long_words(families.sentences("qaa")[:9])
    assert len(words) == 10
    assert [*map(len, words)] == sorted(map(len, words), reverse=True)
    for cut in examples.Spelling(scorer.tokenizer).segment(words):
        assert "".join(cut["tokens"]) == cut["word"]


def test_examples_are_drawn_by_the_text_alone():
    lines = families.sentences("qaa")[:30]
    drawn = examples.draw_clozes(lines)
    assert len(drawn) == 10
    assert examples.draw_clozes(reversed([*lines, *lines])) == drawn
    assert all(cloze.in_parts()["word"].isalpha() for cloze in drawn)
    (short,) = examples.draw_clozes(["12 日本 7"])
    assert short.in_parts()["word"] in ("日", "本")
    assert examples.draw_clozes(["12 + 7 = 19"]) == []


# One family is enough for the rest.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return families.make_teacher("bert", tmp_path_factory.mktemp("bert") / "model")


@pytest.fixture
def bert(folder) -> Scorer:
    model = AutoModelForMaskedLM.from_pretrained(folder)
    return Scorer(model, load_fast_tokenizer(folder))


def test_what_an_unknown_token_hides_is_paid_by_the_character(bert):
    known, unknown = "reka", "reka ☃☃☃"
    assert segment(bert.tokenizer, unknown).hidden == 3
    bits = -sum(scores(bert, [known, unknown])) / math.log(2) + 3 * math.log2(0x110000)
    assert bert.score([known, unknown])["bits_per_character"] == pytest.approx(bits / 12)


def test_the_right_sentence_has_the_higher_score(bert):
    lines = families.sentences("qaa")[:6]
    low, *_, high = sorted(lines, key=lambda line: scores(bert, [line]))
    assert bert.accuracy([(high, low)]) == 1
    assert bert.accuracy([(low, high)]) == 0
    assert bert.accuracy([(high, low), (high, low), (low, high)]) == pytest.approx(2 / 3)


def test_a_difference_that_the_tokenizer_does_not_see_is_a_tie(bert):
    assert bert.accuracy([("reka ☃", "reka ☂")]) == 0.5


def run(folder, tmp_path, pairs="good\tbad\nreka teče\treka teko\n", **options):
    (tmp_path / "pairs.tsv").write_text(pairs)
    (tmp_path / "text.txt").write_text("\n".join(families.sentences("qaa")[:3]))
    task = {"name": "agreement", "kind": "minimal_pairs", "language": "qaa"}
    task |= {"test": str(tmp_path / "pairs.tsv"), "text_column": "good", "text_pair_column": "bad"}
    values = {"model": folder, "system": "small", "language": "qaa", "tasks": [task]}
    values |= {"text": tmp_path / "text.txt", "output": tmp_path / "out.json"}
    intrinsic.evaluate(intrinsic.IntrinsicOptions.model_validate(values | options))
    return json.loads((tmp_path / "out.json").read_text())


def test_the_stage_writes_every_score(folder, bert, tmp_path):
    report = run(folder, tmp_path)
    lines = families.sentences("qaa")[:3]
    expected = bert.score(lines)["bits_per_character"]
    assert report["bits_per_character"] == pytest.approx(expected, rel=1e-5)
    assert len(report["texts"]) == 3
    tokens = sum(len(bert.tokenizer.tokenize(line)) for line in lines)
    assert report["fertility"] == tokens / sum(len(line.split()) for line in lines)
    assert report["unknown_share"] == 0
    assert report["minimal_pairs"]["agreement"]["pairs"] == 1
    assert (report["sentences"], report["characters"]) == (3, sum(map(len, lines)))
    assert report["windowed_texts"] == 0
    assert len(report["masked_sentences"]) == 3
    assert {len(each["answers"]) for each in report["masked_sentences"]} == {5}
    assert report["long_words"][0]["tokens"]


def test_pairs_can_be_limited(folder, tmp_path):
    rows = "good\tbad\n" + "".join(f"reka {n}\treka a{n}\n" for n in range(9))
    report = run(folder, tmp_path, rows, max_pairs=4)
    assert report["minimal_pairs"]["agreement"]["pairs"] == 4


def test_a_bare_encoder_has_fertility_alone(folder, tmp_path):
    bare = tmp_path / "bare"
    AutoModel.from_pretrained(folder).save_pretrained(bare)
    load_fast_tokenizer(folder).save_pretrained(bare)
    report = run(bare, tmp_path)
    assert report["bits_per_character"] is None
    assert report["texts"] == []
    assert report["minimal_pairs"]["agreement"] == {"pairs": 1, "accuracy": None}
    assert report["fertility"] > 1
    assert "no head" in report["remark"]
    assert report["masked_sentences"] == []
    assert report["long_words"]


def test_a_module_that_is_not_known_leaves_the_other_scores(folder, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    write_sentence(model, Sentence("mean"), 16)
    families.add_dense(model)
    report = run(model, tmp_path)
    assert report["bits_per_character"] > 0
    assert "embeddings" not in report
    assert report["remark"].startswith("its embeddings are not scored")
    (model / "modules.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"modules\.json"):
        run(model, tmp_path)


def test_an_empty_text_is_refused(folder, tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(InputError, match=r"empty\.txt: no text in it"):
        run(folder, tmp_path, text=tmp_path / "empty.txt")


def test_a_model_that_is_unavailable_says_why(tmp_path):
    write_json(tmp_path / "unavailable.json", {"reason": "moved away"})
    assert run(tmp_path, tmp_path)["unavailable"] == "moved away"


def test_pairs_that_are_unavailable_say_why_beside_the_other_scores(folder, tmp_path):
    write_json(tmp_path / "unavailable.json", {"reason": "moved away"})
    report = run(folder, tmp_path)
    assert report["minimal_pairs"]["agreement"] == {
        "unavailable": "moved away",
        "pairs": 0,
        "accuracy": None,
    }
    assert report["bits_per_character"] > 0
