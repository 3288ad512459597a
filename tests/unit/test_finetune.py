"""Fine-tuning loses no word, repeats itself, learns, and refuses bad input in one line."""

import json
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import Unigram, WordPiece

from eliquare import stage
from eliquare.tasks import finetune, readers, windows

ROOT = Path(__file__).parents[2]
TASKS = Path(os.environ.get("ELIQUARE_DATA", ROOT / "../shared/data")) / "tasks"
real = pytest.mark.skipif(not TASKS.is_dir(), reason=f"no real tasks at {TASKS}")
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOPICS = {
    "sea": ["wave", "sail", "ship", "salt", "harbour", "tide", "fish", "boat"],
    "field": ["wheat", "plough", "soil", "seed", "harvest", "barn", "cow", "furrow"],
}


def tokenizer_of(algorithm: str, texts):
    from transformers import PreTrainedTokenizerFast

    if algorithm == "wordpiece":
        tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(
            vocab_size=600, special_tokens=SPECIALS, show_progress=False
        )
    else:
        tokenizer = Tokenizer(Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=600, special_tokens=SPECIALS, unk_token="[UNK]", show_progress=False
        )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {name.strip("[]").lower() + "_token": name for name in SPECIALS}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def tiny_model(folder: Path, texts) -> Path:
    """A masked language model of two layers with random weights."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    tokenizer = tokenizer_of("wordpiece", texts)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def real_sentences(limit: int = 300) -> list[tuple[str, ...]]:
    return [s.words for s in readers.read("upos", [TASKS / "mr/upos/train.conllu"])[:limit]]


@pytest.fixture(scope="module")
def encoders():
    texts = [" ".join(words) for words in real_sentences()]
    return {
        name: windows.WordEncoder(tokenizer_of(name, texts)) for name in ("wordpiece", "unigram")
    }


@real
@pytest.mark.parametrize("algorithm", ["wordpiece", "unigram"])
def test_words_are_encoded_as_the_tokenizer_encodes_a_split_sentence(encoders, algorithm):
    encoder = encoders[algorithm]
    for words in real_sentences(100):
        ours = [piece for word in encoder.encode([words])[0] for piece in word]
        theirs = encoder.tokenizer(list(words), is_split_into_words=True)["input_ids"]
        assert encoder.prefix + ours + encoder.suffix == theirs


words_of_any_kind = st.one_of(
    st.sampled_from([word for s in real_sentences() for word in s] if TASKS.is_dir() else ["a"]),
    st.text(max_size=12),
    st.text(alphabet="\u0000\u0001\u200b\ufeff ", max_size=3),
    st.text(alphabet="क", min_size=30, max_size=60),
)


@real
@settings(deadline=None, max_examples=150)
@given(
    algorithm=st.sampled_from(["wordpiece", "unigram"]),
    sentences=st.lists(st.lists(words_of_any_kind, min_size=1, max_size=40), max_size=3),
    max_length=st.integers(3, 40),
)
def test_every_word_is_scored_exactly_once(encoders, algorithm, sentences, max_length):
    encoder = encoders[algorithm]
    pieces = encoder.encode(sentences)
    made = windows.windows(encoder, pieces, max_length)
    scored = Counter((window.sentence, word) for window in made for word in window.words)
    every = [(n, word) for n, words in enumerate(sentences) for word in range(len(words))]
    assert scored == Counter(every)
    for window in made:
        assert 3 <= len(window.input_ids) <= max_length
        for position, word in zip(window.positions, window.words, strict=True):
            assert window.input_ids[position] == pieces[window.sentence][word][0]


def test_words_are_scored_where_they_have_most_context():
    lengths = [1] * 100
    cut = windows.spans(lengths, 20)
    home = windows.best_span(lengths, cut)
    for word in range(10, 90):
        first, end = cut[home[word]]
        assert word - first >= 4 and end - word > 4


def command(output: Path, **options) -> list[str]:
    given = {
        "task": "t",
        "language": "qaa",
        "system": "tiny",
        "seed": "1",
        "epochs": "1",
        "learning_rate": "2e-3",
        "max_length": "32",
        "output": str(output),
    } | {name: str(value) for name, value in options.items()}
    return [
        part for name, value in given.items() for part in (f"--{name}".replace("_", "-"), value)
    ]


def finetuned(output: Path, **options) -> dict:
    finetune.run(finetune.parser().parse_args(command(output, **options)))
    assert sorted(file.name for file in output.iterdir()) == [
        "history.jsonl",
        "metrics.json",
        "predictions.jsonl",
    ]
    return json.loads((output / "metrics.json").read_text())


def predictions(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Pairs of texts that are about the same topic, or not."""
    folder = tmp_path_factory.mktemp("pairs")
    draw = random.Random(0)
    lines = ["premise\thypothesis\tlabel\ttopic"]
    for _ in range(300):
        topics = [draw.choice(sorted(TOPICS)) for _ in range(2)]
        texts = [" ".join(draw.choices(TOPICS[topic], k=6)) for topic in topics]
        lines.append("\t".join([*texts, str(int(topics[0] == topics[1])), topics[0]]))
    (folder / "pairs.tsv").write_text("\n".join(lines) + "\n")
    return folder / "pairs.tsv"


@pytest.fixture(scope="module")
def model(tmp_path_factory, pairs) -> Path:
    """A model whose sub-words come from the pairs and, where there is one, a real treebank."""
    texts = pairs.read_text().splitlines()
    if TASKS.is_dir():
        texts += [" ".join(words) for words in real_sentences()]
    return tiny_model(tmp_path_factory.mktemp("model"), texts)


def test_it_learns_what_can_be_learnt(tmp_path, model, pairs):
    columns = {"text_column": "premise", "label_column": "topic"}
    report = finetuned(
        tmp_path / "out", model=model, kind="classification", train=pairs, epochs=4, **columns
    )
    assert report["metric"] == "macro_f1" and report["test"]["macro_f1"] > 0.9
    assert report["sizes"] == {"train": 240, "validation": 30, "test": 30}
    assert report["steps"] == 60 and report["warmup_steps"] == 6
    rows = predictions(tmp_path / "out")
    right = sum(row["gold"] == row["predicted"] for row in rows)
    assert report["test"]["accuracy"] == right / 30
    history = [json.loads(line) for line in (tmp_path / "out/history.jsonl").open()]
    best = max(history, key=lambda epoch: (epoch["validation_macro_f1"], -epoch["validation_loss"]))
    assert report["best_epoch"] == best["epoch"]
    assert report["validation"]["macro_f1"] == best["validation_macro_f1"]


def test_pairs_are_read_by_their_two_columns(tmp_path, model, pairs):
    columns = {"text_column": "premise", "second_column": "hypothesis"}
    report = finetuned(tmp_path / "out", model=model, kind="pair", train=pairs, **columns)
    assert report["metric"] == "accuracy" and report["labels"] == ["0", "1"]
    assert set(report["truncated_share"]) == {"train", "validation", "test"}


@real
def test_tagging_scores_every_word_of_long_sentences_and_repeats_itself(tmp_path, model):
    files = {name: TASKS / f"mr/upos/{name}.conllu" for name in ("train", "dev", "test")}
    options = {
        "model": model,
        "kind": "upos",
        "train": files["train"],
        "validation": files["dev"],
        "test": files["test"],
        "max_length": 12,
        "max_train": 100,
    }
    report = finetuned(tmp_path / "a", **options)
    gold = [list(sentence.labels) for sentence in readers.read("upos", [files["test"]])]
    rows = predictions(tmp_path / "a")
    assert [row["gold"] for row in rows] == gold
    assert [len(row["predicted"]) for row in rows] == [len(tags) for tags in gold]
    assert report["sizes"] == {"train": 100, "validation": 46, "test": 47}
    assert report["windowed_share"]["test"] > 0.5
    finetuned(tmp_path / "b", **options)
    for name in ("metrics.json", "predictions.jsonl", "history.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    finetuned(tmp_path / "c", **options | {"seed": 2})
    assert (tmp_path / "a/history.jsonl").read_bytes() != (
        tmp_path / "c/history.jsonl"
    ).read_bytes()


@real
@pytest.mark.parametrize(
    "options, metric",
    [
        ({"kind": "ner", "train": "sw/ner/train.txt", "test": "sw/ner/test.txt"}, "entity_f1"),
        (
            {"kind": "classification", "train": "sw/news/train.tsv", "label_column": "category"},
            "macro_f1",
        ),
        ({"kind": "classification", "train": "sl/sentiment/all.csv"}, "macro_f1"),
    ],
)
def test_real_tasks(tmp_path, model, options, metric):
    options = {k: TASKS / v if k in ("train", "test") else v for k, v in options.items()}
    report = finetuned(tmp_path / "out", model=model, max_train=64, **options)
    assert report["metric"] == metric and metric in report["test"]
    assert len(predictions(tmp_path / "out")) == report["sizes"]["test"]


@pytest.mark.parametrize(
    "kind, train, test, says",
    [
        ("classification", "text,gold\na,1\n", "text,label\na,1\n", "no column 'label'"),
        ("classification", "text,label\na,1\nb,\n", "text,label\na,1\n", "train.csv, line 3"),
        ("classification", "text,label\n" + "a,1\n" * 9, "text,label\na,2\n", "test.csv, line 2"),
        ("ner", "Ana B-PER\nide X\n", "Ana B-PER\n", "train.csv, line 2"),
        ("ner", "Ana B-PER\n\n" * 9, "Ana B-PER\n\nNil B-LOC\n", "test.csv, line 3"),
        ("upos", "1\tAna\t_\tPROPN\t_\t_\t_\t_\t_\n", "", "train.csv, line 1: 9 columns"),
        ("pair", "text,label\na,1\n", "", "--second-column"),
        ("ner", "Ana B-PER\n", None, "too few"),
    ],
)
def test_bad_input_ends_in_one_line_and_writes_nothing(
    tmp_path, monkeypatch, capsys, model, kind, train, test, says
):
    options = {"model": model, "kind": kind, "train": tmp_path / "train.csv"}
    options["train"].write_text(train)
    if test is not None:
        options["test"] = tmp_path / "test.csv"
        options["test"].write_text(test)
    monkeypatch.setattr("sys.argv", ["finetune", *command(tmp_path / "made/out", **options)])
    with pytest.raises(SystemExit) as ended:
        stage.main(finetune.parser(), finetune.run)
    message = capsys.readouterr().err
    assert ended.value.code == stage.EXIT_INPUT
    assert message.count("\n") == 1 and says in message
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("broken", ["missing", "empty", "weights", "tokenizer"])
def test_a_model_that_does_not_load_is_named(tmp_path, model, pairs, broken):
    folder = tmp_path / "model"
    if broken != "missing":
        shutil.copytree(model, folder)
    if broken == "empty":
        (folder / "config.json").unlink()
    if broken == "weights":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:5000])
    if broken == "tokenizer":
        (folder / "tokenizer.json").write_text("{")
    options = {"model": folder, "kind": "classification", "train": pairs}
    columns = {"text_column": "premise", "label_column": "topic"}
    with pytest.raises(stage.InputError, match=str(folder)) as error:
        finetuned(tmp_path / "made/out", **options, **columns)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "made").exists()


def test_more_sub_words_than_positions_are_lowered_with_a_warning(tmp_path, model, pairs, capsys):
    columns = {"text_column": "premise", "label_column": "topic"}
    options = {"model": model, "kind": "classification", "train": pairs, "max_length": 512}
    assert finetuned(tmp_path / "out", **options, **columns)["max_length"] == 64
    assert "lowered" in capsys.readouterr().err
