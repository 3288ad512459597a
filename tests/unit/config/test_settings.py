"""The configuration: what is filled in, and one line with file, key and fix for each mistake."""

import copy
import os
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from eliquare.config import inputs
from eliquare.config.derive import base_name
from eliquare.config.load import complete, dump, load, read_yaml, restore
from eliquare.io import InputError
from eliquare.paths import Paths

ROOT = Path(__file__).parents[3]
SHIPPED = sorted(
    [*(ROOT / "config").rglob("*.yaml"), *(ROOT / "resources/replication").glob("*.yaml")]
)


def changed(config: dict, path: str, value) -> dict:
    """Return the configuration with one key set; a value of ... removes it."""
    *parents, last = path.split("/")
    place = config
    for key in parents:
        place = place.setdefault(key, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return config


def errors_of(config, source="mine.yaml") -> list[str]:
    with pytest.raises(InputError) as caught:
        complete(config, source)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{source}: ") for line in lines)
    assert "s3cr3t" not in str(caught.value)
    return [line.removeprefix(f"{source}: ") for line in lines]


# What is changed in the small configuration, the key that is reported, and parts of the message.
MISTAKES = {
    # what is unknown, missing or of another type
    "unknown key": ("students/full/temprature", 2.0, "students.full.temprature", "unknown"),
    "exported task": (
        "students/pre/export",
        {"tasks": ["nams"]},
        "students.pre.export.tasks",
        "there is no 'nams'; did you mean 'names'?",
    ),
    "form of export": (
        "students/pre/export",
        {"formats": ["gguf"]},
        "students.pre.export.formats.0",
        "'onnx' or 'static'",
    ),
    "misspelt key": ("students/full/vocabulry", "pre", "students.full.vocabulry", "'vocabulary'"),
    "misspelt section": ("student", {}, "student", "'students'"),
    "missing key": ("languages/sl/corpus", ..., "languages.sl.corpus", "missing"),
    "missing section": ("teachers", ..., "teachers", "missing"),
    "empty section": ("students", None, "students", "write {}"),
    "bad name": ("students/Big Model", {"extends": "full"}, "students", "small letters", "Big"),
    "bad choice": ("tasks/names/kind", "pos", "tasks.names.kind", "'upos', 'ner'"),
    "text for a number": (
        "students/full/num_hidden_layers",
        "2",
        "students.full.num_hidden_layers",
        "write a number without quotes",
    ),
    "2.0 for a whole number": (
        "students/full/num_hidden_layers",
        2.0,
        "students.full.num_hidden_layers",
        "a valid integer, found 2.0",
    ),
    "not finite": (
        "students/full/training/learning_rate",
        float("nan"),
        "students.full.training.learning_rate",
        "nan",
    ),
    "out of bounds": ("masking/mlm_probability", 1.5, "masking.mlm_probability", "1.5"),
    "repeated": ("experiment/systems", ["full", "full"], "experiment.systems", "'full'"),
    "one language twice": ("mixtures/both", ["sl", "sl"], "mixtures.both.languages", "'sl'"),
    "weights and alpha": (
        "mixtures/both",
        {"languages": ["sl", "sw"], "weights": {"sl": 1, "sw": 2}, "alpha": 0.5},
        "mixtures.both",
        "not both",
    ),
    "a weight of nothing": (
        "mixtures/both",
        {"languages": ["sl", "sw"], "weights": {"sl": 1}},
        "mixtures.both.weights",
        "each of its languages",
    ),
    "no such weighted": ("mixtures/both", {"sl": 1, "sk": 2}, "mixtures.both", "'sk'"),
    "no hash": ("teachers/big/revision", "main", "teachers.big.revision", "'main'", "hexadecimal"),
    # how YAML reads
    "no as a key": (
        "mixtures",
        {False: ["sl", "sw"], "both": ["sl", "sw"]},
        "mixtures",
        "bare no",
        "in quotes",
    ),
    "no in a list": (
        "mixtures/both",
        ["sl", False],
        "mixtures.both.languages.1",
        "bare no",
        "in quotes",
    ),
    "no as a value": ("tasks/names/language", False, "tasks.names.language", "bare no"),
    "5e-4": (
        "students/full/training/learning_rate",
        "5e-4",
        "students.full.training.learning_rate",
        "as 5.0e-4",
    ),
    "5e-4 in fine-tuning": (
        "finetuning/learning_rate",
        "5e-4",
        "finetuning.learning_rate",
        "expected a number above 0, as 5.0e-5",
        "found '5e-4'",
    ),
    "one of several rates": (
        "finetuning/learning_rate",
        [1.0e-5],
        "finetuning.learning_rate",
        "or several different ones as [2.0e-5, 5.0e-5]",
    ),
    "1.0e3": (
        "students/full/training/learning_rate",
        "1.0e3",
        "students.full.training.learning_rate",
        "or 1.0e+3",
    ),
    "date as a number": (
        "languages/sw/corpus/date",
        20230501,
        "languages.sw.corpus.date",
        '"20230501"',
    ),
    "date as a date": (
        "languages/sw/corpus/date",
        yaml.safe_load("2023-05-01"),
        "languages.sw.corpus.date",
        '"20230501"',
    ),
    "layers by number": (
        "students/full/objective",
        {"hidden": {"layers": {1: 2}}},
        "students.full.objective.hidden.layers",
        '"1"',
    ),
    # what goes on into commands, results and pages
    "two lines": ("title", "a\nb", "title", "text on one line"),
    "a name with a line end": ("name", "small\n", "name", "small letters"),
    "a long name": ("name", "x" * 65, "name", "64 at most"),
    "a long student": ("students", {"x" * 65: {"extends": "full"}}, "students", "64 at most"),
    "a blank label": ("students/full/label", "  ", "students.full.label", "text on one line"),
    "half a character": ("students/full/label", "\ud800", "students.full.label", "unicode"),
    "braces in a path": ("tasks/names/train", "a{b}.txt", "tasks.names.train", "without '{'"),
    "a line end in a path": ("tasks/names/train", "a\n.txt", "tasks.names.train", "on one line"),
    "an empty path": ("tasks/names/train", "", "tasks.names.train", "a path on one line"),
    "another folder's dump": ("languages/sw/corpus/wiki", "../x", "languages.sw.corpus.wiki"),
    "a branch of a dataset": (
        "languages/sw/corpus",
        {"source": "dataset", "dataset": "a/b", "revision": "main"},
        "languages.sw.corpus.revision",
        "a commit of 40",
    ),
    "a password": (
        "languages/sw/corpus/mirror",
        "https://me:s3cr3t@host.example/",
        "languages.sw.corpus.mirror",
        "~/.netrc",
    ),
    "no address": ("languages/sw/corpus/mirror", "http://[::1", "languages.sw.corpus.mirror"),
    "a large seed": ("experiment/seeds", [2**33], "experiment.seeds", "at most 4294967295"),
    "a large size": (
        "students/full/training/max_steps",
        2**70,
        "students.full.training.max_steps",
        "at most 4294967295",
    ),
    # names
    "no such language": ("tasks/names/language", "sk", "tasks.names.language", "'sk'"),
    "no such member": ("mixtures/both", ["sl", "sk"], "mixtures.both", "'sk'"),
    "no such teacher": ("students/full/teacher", "bgi", "students.full.teacher", "'big'"),
    "no such vocabulary": (
        "students/pre/vocabulary",
        "sentence",
        "students.pre.vocabulary",
        "mean 'sentences'",
    ),
    "no such extension": (
        "students/new",
        {"extends": "full", "extension": "x"},
        "students.new.extension",
    ),
    "no such system": ("experiment/systems", ["big", "ful"], "experiment.systems", "mean 'full'"),
    "no such task": ("experiment/tasks", ["name"], "experiment.tasks", "mean 'names'"),
    "no such place": ("students/full/languages", ["sk"], "students.full.languages", "'sk'"),
    "no such baseline": ("experiment/baseline", "mbert", "experiment.baseline", "'mbert'"),
    "released teacher": ("experiment/release", ["big"], "experiment.release", "'big'"),
    "released, not compared": (
        "experiment",
        {"systems": ["big"], "release": ["full"]},
        "experiment.systems",
        "full",
    ),
    "baseline, not compared": (
        "experiment",
        {"systems": ["full"], "baseline": "big"},
        "experiment.systems",
        "big",
    ),
    "a number of systems": ("experiment/systems", 5, "experiment.systems", "a valid list"),
    "no such student": ("students/pre/extends", "fulll", "students.pre.extends", "mean 'full'"),
    "no such original": ("students/post/reduced_from", "fu", "students.post.reduced_from", "'fu'"),
    "task elsewhere": (
        "experiment",
        {"systems": ["big"], "languages": ["sw"], "tasks": ["names"]},
        "experiment.tasks",
        "names",
        "'sl'",
    ),
    "two of a name": ("students/big", {"extends": "full"}, "students.big", "teachers.big"),
    "mixture and language": ("mixtures/sl", ["sl", "sw"], "mixtures.sl", "languages.sl"),
    "taken name": ("vocabularies/full", {"top_k": 9}, "vocabularies.full", "taken"),
    "folder of all": ("name", "students", "name", "students"),
    "vocabulary and extension": ("extensions", {"sentences": {}}, "extensions.sentences"),
    "a seed by hand": ("students/full@2", {"extends": "full"}, "students.full@2", "seeds"),
    # what belongs together
    "a bound of nothing": (
        "teachers/big/training/min_steps",
        5,
        "teachers.big.training.min_steps",
        "num_train_epochs",
    ),
    "bounds that cross": (
        "students/full/training",
        {"num_train_epochs": 1, "min_steps": 9, "max_steps": 5},
        "students.full.training.max_steps",
        "less than min_steps",
    ),
    "no budget": ("students/full/training", {}, "students.full.training", "max_steps"),
    "no teacher": ("students/full/teacher", ..., "students.full.teacher", "missing"),
    "untrained teacher": (
        "teachers/big/training",
        {"max_steps": 0},
        "teachers.big.training.max_steps",
    ),
    "extends itself": ("students/full/extends", "full", "students.full.extends", "itself"),
    "reduced to nothing": ("students/post/vocabulary", ..., "students.post.vocabulary", "missing"),
    "reduced twice": ("students/post/reduced_from", "pre", "students.post.reduced_from", "pre"),
    "num_tokens and min_gain": (
        "extensions",
        {"longer": {"num_tokens": 5, "min_gain": 0.1}},
        "extensions.longer",
        "not both",
    ),
    "vectors unused": (
        "extensions",
        {"longer": {"vectors": "v.txt"}},
        "extensions.longer.vectors",
        "similar",
    ),
    "too many layers": (
        "students/full/num_hidden_layers",
        5,
        "students.full.num_hidden_layers",
        "teacher has 4",
    ),
    "2n-1 too deep": (
        "students/deep",
        {"extends": "full", "num_hidden_layers": 3, "initialization": "2n-1"},
        "students.deep.initialization",
        "layer 5",
        "use even",
    ),
    "heads": (
        "students/full/num_attention_heads",
        5,
        "students.full.hidden_size",
        "the heads that stay have the teacher's size",
    ),
    "another width": (
        "students/full/hidden_size",
        20,
        "students.full.hidden_size",
        "initialization: blank",
    ),
    "wider": ("students/full/hidden_size", 128, "students.full.hidden_size", "teacher has 64"),
    "predictions without a head": (
        "teachers/big",
        {"source": "folder", "model": "m", "pooling": "mean"},
        "students.full.objective.kl",
        "big: a sentence encoder predicts no tokens; write `preset: sentence`",
    ),
    "embeddings without pooling": (
        "students/full/objective",
        {"sentence_cosine": 1},
        "students.full.objective.sentence_cosine",
        "big: its pooling, which makes embeddings, is not given",
    ),
    "no such pooling": (
        "teachers/encoder",
        {"source": "folder", "model": "m", "pooling": "lasttoken"},
        "teachers.encoder.pooling",
        "'mean', 'cls' or 'max'",
    ),
    "adapted with two vocabularies": (
        "teachers/own",
        {
            "source": "adapt",
            "teacher": "big",
            "vocabulary": "sentences",
            "extension": "longer",
            "training": {"max_steps": 1},
        },
        "teachers.own.vocabulary",
        "its extension says it",
    ),
    "too long": ("sequences/max_length", 1024, "teachers.big.max_position_embeddings", "1024"),
    "misspelt term": ("students/full/objective", {"hiden": 1}, "students.full.objective.hiden"),
    "misspelt setting": (
        "students/full/objective",
        {"kl": {"direktion": "jsd"}},
        "students.full.objective.kl.direktion",
        "'direction'",
    ),
    "misspelt preset": (
        "students/full/objective",
        {"preset": "tiny"},
        "students.full.objective.preset",
        "'tinybert'",
    ),
    "weight of text": (
        "students/full/objective",
        {"kl": "much"},
        "students.full.objective.kl.weight",
        "'much'",
    ),
    "nothing to learn": (
        "students/full/objective",
        dict.fromkeys(("kl", "cosine", "mlm"), 0),
        "students.full.objective",
        "nothing to train for",
    ),
    "a teacher alone": ("students/full/teachers", {"big": 1}, "students.full.teachers", "least 2"),
    "unknown teachers": (
        "students/full/teachers",
        {"big": 1, "b": 2},
        "students.full.teachers",
        "'b'",
    ),
    "two rules": ("vocabularies/sentences/top_k", 5, "vocabularies.sentences", "exactly one"),
    "no rule": ("vocabularies/sentences", {"always_keep": "k.txt"}, "vocabularies.sentences"),
    "no files": ("languages/sl/corpus/files", ..., "languages.sl.corpus", "'files'"),
    "files of a dump": ("languages/sw/corpus/files", ["a"], "languages.sw.corpus.files", "remove"),
    "no revision": (
        "teachers/hub",
        {"source": "hub", "model": "a/b"},
        "teachers.hub",
        "'revision'",
    ),
    "shape of a folder": (
        "teachers/there",
        {"source": "folder", "model": "m", "hidden_size": 8},
        "teachers.there.hidden_size",
        "remove",
    ),
    "recipe of a reduced one": (
        "students/post/num_hidden_layers",
        3,
        "students.post.num_hidden_layers",
        "`reduced_from`",
    ),
    "system of nothing": ("systems/only", {"teacher": "big"}, "systems.only", "vocabulary"),
    "a student as it is": (
        "systems/again",
        {"student": "full"},
        "systems.again.task_distillation",
        "this is the student itself",
    ),
    "no such teacher of tasks": (
        "systems/taught",
        {"student": "full", "task_distillation": {"teacher": "full"}},
        "systems.taught.task_distillation.teacher",
        "there is no 'full'",
    ),
    "a seed of a system": (
        "systems/taught@2",
        {"student": "full", "task_distillation": {"teacher": "big"}},
        "systems.taught@2",
        "seeds",
    ),
    "pair without column": ("tasks/pairs/text_pair_column", ..., "tasks.pairs", "text_pair_column"),
    "column without pair": (
        "tasks/names/text_pair_column",
        "b",
        "tasks.names.text_pair_column",
        "remove",
    ),
    # what can only be a mistake
    "two splits of a file": ("tasks/names/test", "sl.txt", "tasks.names.test", "is train too"),
    "one file in two words": ("tasks/names/test", "./a/../sl.txt", "tasks.names.test", "is train"),
    "an address for a file": (
        "tasks/names/train",
        "https://x.org/train.tsv",
        "tasks.names.train",
        "write it as url: {train: …}",
    ),
    "a page for a file": (
        "tasks/names",
        {"language": "sl", "kind": "ner"}
        | {"url": {"train": "https://github.com/a/b/blob/main/t.txt"}},
        "tasks.names.url.train",
        "give the address of the file",
    ),
    "two columns of a data set": (
        "tasks/names",
        {"language": "sl", "kind": "classification"}
        | {"hub": {"dataset": "a/b", "columns": {"text": "x", "label": "x"}}},
        "tasks.names.hub.columns.label",
        "this is the column of text too",
    ),
    "an address for a model": (
        "systems/only",
        {"model": "https://huggingface.co/a/b"},
        "systems.only.model",
        "no address",
    ),
    "two splits of a data set": (
        "tasks/names",
        {"language": "sl", "kind": "ner", "hub": {"dataset": "a/b", "test": "train"}},
        "tasks.names.hub.test",
        "is train too",
    ),
    "two columns of a name": ("tasks/pairs/text_column", "b", "tasks.pairs.text_column", "its own"),
    "an address of no files": (
        "tasks/names",
        {"language": "sl", "kind": "ner", "url": {"train": []}},
        "tasks.names.url.train",
        "expected an address, https://...",
    ),
    "a password in a list": (
        "tasks/names",
        {"language": "sl", "kind": "ner", "url": {"train": ["https://me:s3cr3t@host.example/a"]}},
        "tasks.names.url.train",
        "~/.netrc",
    ),
    "a data set that is a path": (
        "tasks/names",
        {"language": "sl", "kind": "ner", "hub": {"dataset": "../.."}},
        "tasks.names.hub.dataset",
        "an id on the hub",
    ),
    "a teacher that is no id": (
        "teachers/hub",
        {"source": "hub", "model": "https://host.example/a", "revision": "a" * 40},
        "teachers.hub.model",
        "an id on the hub",
    ),
    "no such day": ("languages/sw/corpus/date", "20261399", "languages.sw.corpus.date", "no such"),
    "bounds of documents": (
        "languages/sl/corpus/max_documents",
        5,
        "languages.sl.corpus.max_documents",
        "less than min_documents, 10",
    ),
    "a weight beyond sizes": (
        "mixtures/both",
        {"sl": 1e300, "sw": 1},
        "mixtures.both.weights",
        "at most 4294967295",
    ),
    "epochs without end": (
        "students/full/training",
        {"num_train_epochs": 1e300},
        "students.full.training.num_train_epochs",
        "at most 4294967295",
    ),
    "no number of a layer": (
        "students/full/objective",
        {"hidden": {"layers": {"a": 1}}},
        "students.full.objective.hidden.layers",
        "the number of a layer",
    ),
    "another row's name": ("teachers/big/label", "full", "teachers.big.label", "in tables"),
    "a commit of nothing": (
        "systems/taught",
        {"student": "full", "revision": "a" * 40, "task_distillation": {"teacher": "big"}},
        "systems.taught.revision",
        "remove it",
    ),
    "export of nothing": ("students/pre/export", {"formats": []}, "students.pre.export", "nothing"),
    "static without its form": (
        "students/pre/export",
        {"static": {"dimensions": 16}},
        "students.pre.export.static",
        "not among formats",
    ),
    "a margin of nothing": (
        "students/pre/export",
        {"formats": ["static"], "margin": 0.5},
        "students.pre.export.margin",
        "onnx is not among formats",
    ),
    "an address of nothing": (
        "tasks/names",
        {"language": "sl", "kind": "classification", "url": {"licence": "CC0"}},
        "tasks.names.url",
        "give the address of a file",
    ),
    "reduced for a language that was left out": (
        "students",
        {
            "full": {
                "teacher": "big",
                "num_hidden_layers": 2,
                "languages": ["sl"],
                "training": {"max_steps": 1},
            },
            "pre": {"extends": "full", "vocabulary": "sentences"},
            "post": {"reduced_from": "full", "vocabulary": "sentences", "languages": ["sw"]},
        },
        "students.post.languages",
        "full is not made for sw",
    ),
    "a task of others": (
        "students/pre",
        {"extends": "full", "languages": ["sw"], "export": {"tasks": ["names"]}},
        "students.pre.export.tasks",
        "language",
    ),
    "masks": (
        "masking",
        {"mask_replace_prob": 0.8, "random_replace_prob": 0.3},
        "masking",
        "more than 1",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_one_line_with_file_key_and_fix(small, name):
    path, value, key, *said = MISTAKES[name]
    lines = errors_of(changed(small, path, value))
    (line,) = [line for line in lines if line.startswith(f"{key}: ")]
    for part in said:
        assert part in line
    # A mistake has no consequences that are reported as mistakes of their own, but in its names.
    assert all("there is no" in other for other in lines if other != line)


def test_all_mistakes_of_a_file_are_reported_at_once(small):
    for path, value in (
        ("students/full/temprature", 2.0),
        ("students/pre/vocabulary", "sentence"),
        ("teachers/big/training/max_steps", "10"),
        ("masking/mlm_probability", 1.5),
        ("tasks/pairs/text_pair_column", ...),
        ("experiment/baseline", "mbert"),
        ("languages/sl/corpus/source", ...),
        # By themselves these are right.
        ("teachers/own", {"source": "pretrain", "corpus": "sw", "num_hidden_layers": 2}),
        ("teachers/own/training", {"max_steps": 1}),
        ("students/deep", {"teacher": "own", "num_hidden_layers": 3}),
        ("students/deep/training", {"max_steps": 1}),
        ("students/own", {"teacher": "own", "training": {"max_steps": 1}, "num_hidden_layers": 1}),
        ("students/lost", {"extends": "ful", "temprature": 1}),
    ):
        changed(small, path, value)
    keys = {line.partition(": ")[0] for line in errors_of(small)}
    assert keys == {
        "students.full.temprature",
        "students.pre.vocabulary",
        "teachers.big.training.max_steps",
        "masking.mlm_probability",
        "tasks.pairs",
        "experiment.baseline",
        "languages.sl.corpus.source",
        "students.deep.num_hidden_layers",
        "students.own",
        "students.lost.extends",
    }


def test_a_name_that_is_no_text_is_a_mistake_beside_others(small):
    """YAML reads the bare name no as False."""
    small["tasks"][False] = {"language": "slo", "kind": "ner", "train": "sl.txt"}
    lines = errors_of(small)
    assert any("in quotes" in line for line in lines)
    assert any("'slo'" in line for line in lines)


@pytest.mark.parametrize("by", ["extends", "reduced_from"])
def test_a_mistake_that_others_take_over_is_reported_where_it_was_made(small, by):
    small["students"] = {
        "full": {"teacher": "big", "training": {"max_steps": "ten"}, "num_hidden_layers": 9},
        "other": {by: "full", "vocabulary": "sentences"},
    }
    small["finetuning"]["max_length"] = 2
    small["experiment"]["systems"] = ["full", "other"]
    keys = [line.partition(": ")[0] for line in errors_of(small)]
    assert sorted(keys) == ["finetuning.max_length", "students.full.training.max_steps"]


def test_a_teacher_adapted_from_itself_is_refused(small):
    for one, other in (("a", "b"), ("b", "a")):
        small["teachers"][one] = {"source": "adapt", "teacher": other, "training": {"max_steps": 1}}
    assert {line.partition(": ")[0] for line in errors_of(small)} == {
        "teachers.a.teacher",
        "teachers.b.teacher",
    }


def test_speed_is_measured_with_inputs_that_the_teacher_takes(small):
    small["teachers"]["big"]["max_position_embeddings"] = 64
    small["sequences"] = {"max_length": 64}
    (line,) = errors_of(small)
    assert line == (
        "benchmark.sequence_length: 128 is more than max_position_embeddings of big, 64, whose "
        "speed is measured"
    )
    complete(small | {"benchmark": {"sequence_length": 64}})


def test_an_untrained_student_cannot_be_reduced_afterwards(small):
    (line,) = errors_of(changed(small, "students/full/training", {"max_steps": 0}))
    assert line.startswith("students.post.reduced_from: full")


def test_teachers_of_a_reduced_student_are_one_model(small):
    training = {"max_steps": 1}
    small["teachers"]["adapted"] = {"source": "adapt", "teacher": "big", "training": training}
    small["teachers"]["other"] = {"source": "folder", "model": "m"}
    small["students"]["pre"]["teachers"] = {"big": 1, "adapted": 0.5}
    complete(small)
    small["students"]["pre"]["teachers"] = {"big": 1, "other": 0.5}
    (line,) = errors_of(small)
    assert line.startswith("students.pre.teachers: other")


@pytest.mark.parametrize(
    "source",
    [
        {"source": "dump"},
        {"source": "text", "files": ["a.txt"]},
        {"source": "dataset", "dataset": "HuggingFaceFW/fineweb-2", "configuration": "slv_Latn"},
    ],
)
def test_every_source_may_end_early_and_identify_its_language(small, source):
    corpus = source | {"max_documents": 1000, "identify": True}
    small["languages"]["sl"]["corpus"] = corpus
    assert complete(small).languages["sl"].corpus.max_documents == 1000


def test_files_of_text_that_are_something_else_are_named_each(small):
    files = ["a.txt", "b.JSONL.zst", "c.csv.txt", "d.conllu", "e.xml.bz2"]
    small["languages"]["sl"]["corpus"] = {"source": "text", "files": files}
    lines = errors_of(small)
    assert [line.partition(":")[0][-1] for line in lines] == ["1", "3", "4"]
    assert "b.JSONL.zst is not plain text; `source: dataset` reads tables" in lines[0]
    assert "a document per line" in lines[1]
    assert "`source: dump` reads a dump" in lines[2]


def test_coverage_is_rounded_in_the_completed_settings_alone(small):
    small["vocabularies"] |= {"covered": {"coverage": 0.99}, "exactly": {"top_k": 9}}
    vocabularies = complete(small).vocabularies
    assert vocabularies["covered"].multiple_of == 64
    assert vocabularies["exactly"].multiple_of is None


def test_teachers_of_a_student_have_the_same_tokens(small):
    training = {"max_steps": 1}
    small["extensions"] = {"longer": {}}
    adapted = {"source": "adapt", "teacher": "big", "training": training}
    small["teachers"]["own"] = adapted | {"extension": "longer"}
    small["teachers"]["again"] = adapted | {"teacher": "own"}
    small["students"]["full"] |= {"teacher": "own", "teachers": {"own": 1, "again": 1}}
    complete(small)
    small["students"]["full"]["teachers"] = {"own": 1, "big": 1}
    lines = errors_of(small)
    assert all(": big and own have other tokens" in line for line in lines)
    assert lines[0].startswith("students.full.teachers")


@pytest.mark.parametrize("objective", [{"hidden": 1}, {"preset": "minilm"}])
def test_terms_of_an_extended_student_can_be_compared_across_tokenizers(small, objective):
    small["extensions"] = {"longer": {}}
    small["students"]["new"] = {"extends": "full", "extension": "longer"}
    complete(small)
    small["students"]["new"]["objective"] = objective
    (line,) = errors_of(small)
    assert line.startswith("students.new.objective.")


def test_a_sentence_encoder_teaches_what_it_makes(small):
    small["teachers"]["e5"] = {"source": "folder", "model": "e5", "pooling": "mean"}
    student = {"teacher": "e5", "training": {"max_steps": 1}}
    small["students"]["from-e5"] = student | {"objective": {"preset": "sentence", "mlm": 1}}
    complete(small)
    small["students"]["from-e5"]["objective"] = {"preset": "electronics2023"}
    small["students"]["full"]["objective"] = {"similarity": 1}
    lines = sorted(errors_of(small))
    assert lines[0].startswith("students.from-e5.objective.kl: e5: a sentence encoder predicts no")
    assert all(": give `pooling`" in line or "give `pooling`" in line for line in lines[1:])
    adapted = {"source": "adapt", "teacher": "e5", "training": {"max_steps": 1}}
    small["teachers"]["with-head"] = adapted
    small["students"]["from-e5"] |= {"teacher": "with-head"}
    del small["students"]["full"]["objective"]
    complete(small)


@pytest.mark.parametrize(
    ("teacher", "key", "message"),
    [
        ({"pooling": "sum"}, "pooling", "'mean', 'cls' or 'max'"),
        ({"prompts": {"query": "query: "}}, "prompts", "give its pooling too"),
        ({"normalize": False}, "normalize", "give its pooling too"),
    ],
)
def test_keys_of_a_sentence_encoder(small, teacher, key, message):
    small["teachers"]["e5"] = {"source": "folder", "model": "e5", **teacher}
    (line,) = errors_of(small)
    assert line.startswith(f"teachers.e5.{key}: ")
    assert message in line


def test_derived_values_are_filled_in(small):
    settings = complete(small)
    assert settings.languages["sl"].name == "sl"
    assert settings.students["full"].label == "full"
    assert settings.students["full"].languages == settings.experiment.languages == ["sl", "sw"]
    kl = {"weight": 5.0, "direction": "forward", "temperature": 2.0, "positions": "all"}
    assert settings.students["full"].objective.written_out() == {
        "preset": "none",
        "kl": kl,
        "mlm": {"weight": 2.0},
        "cosine": {"weight": 1.0},
    }
    assert settings.experiment.tasks == ["names", "pairs"]
    assert settings.experiment.seeds == [1, 2, 3]
    # A task's own setting, then the experiment's, then the default.
    assert settings.tasks["pairs"].finetuning.num_train_epochs == 3
    assert settings.tasks["names"].finetuning.num_train_epochs == 2
    assert settings.tasks["names"].finetuning.learning_rate == 5.0e-5
    # A student that is reduced afterwards has the recipe of its original.
    assert settings.students["post"].teacher == "big"
    assert settings.students["post"].num_hidden_layers == 2
    small["students"]["full"]["languages"] = ["sl"]
    assert complete(small).students["post"].languages == ["sl"]


@pytest.mark.parametrize(
    ("kind", "written", "expected"),
    [
        ("upos", None, 128),
        ("ner", None, 128),
        ("classification", None, 512),
        ("pair", None, 512),
        ("pair", 64, 64),
    ],
)
def test_the_longest_input_of_a_task_follows_its_kind(small, kind, written, expected):
    small["finetuning"]["max_length"] = written
    task = {"language": "sl", "kind": kind, "train": "a.csv"}
    if kind == "pair":
        task["text_pair_column"] = "b"
    small["tasks"] = {"it": task}
    assert complete(small).tasks["it"].finetuning.max_length == expected


def test_a_student_extends_all_but_the_names(small):
    small["students"]["full"] |= {"label": "Full", "published_as": "eliquare_mbert"}
    small["students"]["full"]["objective"] = {"kl": 3.0, "mlm": {"from": 2, "to": 1}}
    small["students"]["cool"] = {"extends": "pre", "objective": {"kl": {"temperature": 1.0}}}
    small["students"]["flat"] = {"extends": "cool", "objective": {"kl": 4.0, "mlm": 0.5}}
    students = complete(small).students
    cool, flat = students["cool"].objective.terms(), students["flat"].objective.terms()
    assert (cool["kl"].temperature, cool["kl"].weight.mean) == (1.0, 3.0)
    assert cool["mlm"].weight.at(0) == 2
    assert (flat["kl"].temperature, flat["kl"].weight.mean) == (1.0, 4.0)
    assert flat["mlm"].weight.constant
    assert (students["cool"].vocabulary, students["cool"].num_hidden_layers) == ("sentences", 2)
    assert (students["cool"].label, students["cool"].published_as) == ("cool", [])


def test_each_seed_of_distillation_is_a_recipe(small):
    small["students"]["full"]["seeds"] = [3, 5]
    small["students"]["alone"] = {"extends": "full", "seeds": [9]}
    small["experiment"] |= {"baseline": "full", "release": ["pre"]}
    small["experiment"]["systems"].append("alone")
    settings = complete(small)
    expected = ["full", "full@5", "pre", "pre@5", "post", "post@5", "alone"]
    assert list(settings.students) == expected
    assert settings.experiment.systems == ["big", *expected]
    seeds = [student.training.seed for student in settings.students.values()]
    assert seeds == [3, 5, 3, 5, 3, 5, 9]
    assert settings.students["post@5"].reduced_from == "full@5"
    assert settings.students["full@5"].label == "full"
    assert [base_name(name) for name in ("full@5", "full")] == ["full", "full"]
    assert settings.experiment.release == ["pre"]
    assert restore(dump(settings)) == settings
    # One more seed changes no recipe that was there.
    small["students"]["full"]["seeds"] = [3, 5, 7]
    assert complete(small).students["full@5"] == settings.students["full@5"]


@pytest.mark.parametrize("smoke", [True, "true"])
def test_a_smoke_run_is_the_same_experiment_with_little_of_everything(small, smoke):
    """Snakemake reads `--config smoke=true` as text."""
    small["students"]["full"]["seeds"] = [1, 2]
    small["students"]["none"] = {"extends": "full", "training": {"num_train_epochs": None}}
    small["students"]["none"]["training"]["max_steps"] = 0
    settings = complete(small | {"smoke": smoke})
    assert Paths(settings).results == Path("results/smoke")
    assert "full@2" not in settings.students
    assert settings.experiment.seeds == [1]
    assert all(entry.corpus.max_documents <= 200 for entry in settings.languages.values())
    for trained in (settings.teachers["big"], settings.students["full"], settings.students["post"]):
        assert (trained.training.max_steps, trained.training.num_train_epochs) == (3, None)
    assert settings.students["none"].training.max_steps == 0
    assert settings.tasks["pairs"].finetuning.num_train_epochs == 1
    assert settings.tasks["names"].finetuning.max_train_samples <= 100


def shuffled(value, draw):
    if isinstance(value, dict):
        keys = draw(st.permutations(list(value)))
        return {key: shuffled(value[key], draw) for key in keys}
    return value


@hypothesis_settings(max_examples=20, deadline=None)
@given(st.data())
def test_the_order_of_keys_does_not_matter(data):
    small = yaml.safe_load((Path(__file__).with_name("conftest.py")).read_text().split('"""')[3])
    # Two lists follow the order of keys by intent: the defaults of languages and of tasks.
    small["experiment"] |= {"languages": ["sl", "sw"], "tasks": ["names", "pairs"]}
    assert complete(shuffled(small, data.draw)) == complete(small)


def test_the_given_configuration_is_left_as_it_is(small):
    before = copy.deepcopy(small)
    complete(small | {"smoke": True})
    assert small == before


def test_a_file_adds_to_the_one_that_it_extends(tmp_path, monkeypatch, text):
    """The path is relative to the file, or to the working folder."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "base.yaml").write_text(text)
    (tmp_path / "far" / "middle.yaml").write_text("extends: base.yaml\nname: middle\n")
    mine = "name: mine\nstudents: {full: {num_hidden_layers: 1}}\nexperiment: {seeds: [7]}\n"
    monkeypatch.chdir(tmp_path)
    for folder, base in ((tmp_path, "far/middle.yaml"), (tmp_path / "far", "far/base.yaml")):
        (folder / "mine.yaml").write_text(f"extends: {base}\n{mine}")
        settings = load(folder / "mine.yaml")
        assert settings.name == "mine"
        layers = [settings.students[name].num_hidden_layers for name in ("full", "pre", "post")]
        assert layers == [1, 1, 1]
        assert settings.experiment.seeds == [7]
        assert settings.experiment.systems == ["big", "full", "pre", "post"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("extends: nowhere.yaml\n", "mine.yaml: extends: there is no file nowhere.yaml"),
        ("extends: mine.yaml\n", "mine.yaml: extends: mine.yaml extends itself"),
        ("extends: 5\n", "mine.yaml: extends: expected the path"),
        ("name: [a\n", "mine.yaml, line 2: not YAML"),
        ("- a\n", "mine.yaml: expected keys and values"),
        (f"extends: {'x' * 300}\n", "mine.yaml: extends: there is no file xxx"),
        ("name: 010\n", "mine.yaml, line 1: not YAML (010 is 8 in YAML"),
        ("name: a\nsize: 1:30\n", "mine.yaml, line 2: not YAML (1:30 is 90 in YAML"),
        (None, "mine.yaml: no such configuration file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, monkeypatch, content, said):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("mine.yaml").write_text(content)
    with pytest.raises(InputError) as caught:
        load("mine.yaml")
    assert str(caught.value).startswith(said)


def test_all_missing_files_of_the_experiment_are_named(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small["vocabularies"]["listed"] = {"tokens": "tokens.txt"}
    small["tasks"]["elsewhere"] = {"language": "sl", "kind": "ner", "train": "resources/demo/x"}
    small["tasks"]["long"] = {"language": "sl", "kind": "ner", "train": "x" * 300}
    settings = complete(small | {"demo": {}})
    with pytest.raises(InputError) as caught:
        inputs.check_files(settings, "mine.yaml")
    del small["tasks"]["long"]  # no file can have this name
    corpus = {"source": "text", "files": ["hr.txt"]}
    other = {**small, "languages": {**small["languages"], "hr": {"corpus": corpus}}}
    other["vocabularies"] = {"sentences": {"top_k": 5, "languages": ["hr"]}}
    other["experiment"] = {**small["experiment"], "languages": ["sl", "sw"]}
    with pytest.raises(InputError, match=r"languages\.hr\.corpus\.files: "):
        inputs.check_files(complete(other | {"demo": {}}), "mine.yaml")
    settings = complete(small | {"demo": {}})
    keys = [line.split(": ")[1] for line in str(caught.value).splitlines()[:-1]]
    assert keys == [
        "languages.sl.corpus.files",
        "vocabularies.listed.tokens",
        "tasks.names.train",
        "tasks.pairs.train",
        "tasks.long.train",
    ]
    for name in ("sl.txt", "sw.csv", "tokens.txt"):
        Path(name).touch()
    inputs.check_files(settings, "mine.yaml")
    os.utime("tokens.txt", (time.time() + 3600, time.time() + 3600))
    with pytest.raises(InputError, match=r"^mine.yaml: vocabularies.listed.tokens: .* future"):
        inputs.check_files(settings, "mine.yaml")


def test_a_folder_is_no_file_and_a_file_no_folder(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sl.txt").touch()
    Path("sw.csv").mkdir()
    small["teachers"]["there"] = {"source": "folder", "model": "sl.txt"}
    with pytest.raises(InputError) as caught:
        inputs.check_files(complete(small), "mine.yaml")
    assert str(caught.value).splitlines()[:2] == [
        "mine.yaml: teachers.there.model: sl.txt is a file; give a folder",
        "mine.yaml: tasks.pairs.train: sw.csv is a folder; give a file",
    ]


def test_a_system_in_place_is_a_folder_without_a_revision(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.md").touch()
    (tmp_path / "there").mkdir()
    small["systems"] = {
        "a": {"model": "results/nowhere/model"},
        "b": {"model": "notes.md"},
        "c": {"model": "there", "revision": "a" * 40},
        "d": {"model": "owner/there"},
        "e": {"model": "results/not/compared"},
        "f": {"model": "/nowhere/model"},
    }
    small["experiment"]["systems"] = ["pre", "a", "b", "c", "d", "f"]
    with pytest.raises(InputError) as caught:
        inputs.check_files(complete(small), "mine.yaml")
    assert [line for line in str(caught.value).splitlines() if "systems." in line] == [
        "mine.yaml: systems.f.model: there is no folder /nowhere/model; put it there",
        "mine.yaml: systems.b.model: notes.md is a file; give a folder",
        "mine.yaml: systems.c.revision: there is in place, and is read as it is; remove it",
    ]


def test_a_dump_is_of_a_wikipedia_that_there_is(small):
    small["languages"] |= {code: {"corpus": {"source": "dump"}} for code in ("english", "qab")}
    small["languages"]["new"] = {"corpus": {"source": "dump", "wiki": "newwiki"}}
    small["languages"]["mine"] = {"corpus": {"source": "dump", "file": "mine.xml.bz2"}}
    small["languages"]["be-tarask"] = {"corpus": {"source": "dump"}}
    (line,) = errors_of(small)
    assert line.startswith("languages.english.corpus.wiki: there is no Wikipedia of the code")
    assert "did you mean 'en' (English)?" in line
    del small["languages"]["english"]
    assert Paths(complete(small)).wiki("be-tarask") == "be_x_oldwiki"


def test_a_source_is_of_the_language_before_its_hyphen(small):
    corpus = {"source": "text", "files": ["a.txt"]}
    small["languages"] |= {"sw-web": {"corpus": corpus}, "zh-yue": {"corpus": corpus}}
    small["mixtures"] = {"swahili": ["sw", "sw-web"], "both": ["sw", "zh-yue"]}
    settings = complete(small)
    corpora = ("sw", "sw-web", "zh-yue", "swahili", "both")
    assert [settings.language_of(each) for each in corpora] == ["sw", "sw", "zh-yue", "sw", "en"]


def test_a_system_for_other_languages_is_not_compared(small):
    small["students"]["post"]["languages"] = ["sw"]
    small["experiment"]["languages"] = ["sl"]
    (line,) = errors_of(small)
    assert line.startswith("experiment.systems: post is made for sw, none of")


def test_a_section_that_is_no_mapping_is_one_mistake(small):
    assert len(errors_of(small | {"languages": ["sl", "sw"]})) == 1


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_are_complete(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = load(path)
    assert restore(dump(settings)) == settings


def test_warm_up_is_a_share_of_the_steps_everywhere(monkeypatch):
    """500 steps of 588 are no warm-up."""
    monkeypatch.chdir(ROOT)
    for path in SHIPPED:
        settings = load(path)
        trained = [*settings.students.values(), *settings.teachers.values()]
        shares = [entry.training.warmup_ratio for entry in trained]
        shares += [task.finetuning.warmup_ratio for task in settings.tasks.values()]
        assert all(0 < share <= 0.1 for share in shares)


@pytest.mark.parametrize(
    ("language", "student", "refused"),
    [
        ("zh-sw", "pre-zh", True),  # models/pre-zh-sw
        ("zh-sw", "prezh", False),
        ("sl-x", "x-full", True),  # logs of sl-x-full
    ],
)
def test_names_that_are_one_folder_when_joined_are_refused(small, language, student, refused):
    changed(small, f"languages/{language}", {"corpus": {"source": "text", "files": ["a"]}})
    changed(small, f"students/{student}", {"extends": "full"})
    if not refused:
        complete(small, "mine.yaml")
        return
    errors = errors_of(small)
    assert errors[0].startswith(f"students.{student}: {student} for s")
    assert "choose another name" in errors[0]


# What stands in a file, and what is said of it after its name.
NO_YAML = {
    "nothing": (b"", ": expected keys and values at the top, found nothing"),
    "a comment": (b"# x", ": expected keys and values at the top, found nothing"),
    "a list": (b"- a", ": expected keys and values at the top, found list"),
    "a text": (b"a", ": expected keys and values at the top, found str"),
    "a tab": (b"a:\n\tb: 1", ", line 2: not YAML (found character '\\t'"),
    "open": (b"a: [1", ", line 1: not YAML"),
    "a key twice": (b"a: 1\nb: 2\na: 3", ", line 3: not YAML (the key 'a' stands here twice"),
    "a key twice inside": (b"x: {b: 1, b: 2}", ", line 1: not YAML (the key 'b' stands here"),
    "two documents": (b"a: 1\n---\nb: 2", ", line 2: not YAML"),
    "a zero": (b"a: \x00", ": not YAML"),
    "Latin-2": ("title: Žaba".encode("iso-8859-2"), ": not text in UTF-8 (byte 7)"),
    "UTF-16": ("a: 1".encode("utf-16"), ": not text in UTF-8 (byte 0)"),
    "no such month": (b"a: 2023-13-45", ": not YAML (month must be in 1..12)"),
    "nested": (b"[" * 1500, ": not YAML that can be read (nested too deeply)"),
    "code": (b"a: !!python/object/apply:os.getcwd []", ", line 1: not YAML"),
}


@pytest.mark.parametrize("kind", NO_YAML)
def test_a_file_that_is_no_configuration_is_one_line(kind, tmp_path):
    content, said = NO_YAML[kind]
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}{said}")
    assert len(str(caught.value).splitlines()) == 1


def test_merged_keys_are_no_keys_twice(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text('a: &x {b: 1}\nc: &y {d: 1}\ne: {<<: [*x, *y], b: 2}\n"1": 0\n1: 0\n')
    assert read_yaml(path)["e"] == {"b": 2, "d": 1}


def test_a_dataset_of_the_hub_needs_its_commit(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus = {"source": "dataset", "dataset": "a/b"}
    settings = complete(changed(small, "languages/sw/corpus", corpus))
    with pytest.raises(InputError, match=r"languages.sw.corpus.revision: missing.* a/b") as caught:
        inputs.check_files(settings, "mine.yaml")
    (tmp_path / "a/b").mkdir(parents=True)
    with pytest.raises(InputError) as now:
        inputs.check_files(settings, "mine.yaml")
    assert "revision" in str(caught.value)
    assert "revision" not in str(now.value)


def test_what_is_said_of_a_dataset_in_place_and_not_read_is_refused(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dev.jsonl").touch()
    corpus = {"source": "dataset", "dataset": "dev.jsonl", "split": "dev", "revision": "a" * 40}
    settings = complete(changed(small, "languages/sw/corpus", corpus))
    with pytest.raises(InputError) as caught:
        inputs.check_files(settings, "mine.yaml")
    lines = [line for line in str(caught.value).splitlines() if "languages.sw" in line]
    assert "languages.sw.corpus.revision: dev.jsonl is in place" in lines[0]
    assert "languages.sw.corpus.split: dev.jsonl is in place" in lines[1]


def test_a_wrong_name_hides_no_other_mistake(small):
    small["languages"]["xx"] = {"corpus": {"source": "dump"}}
    small["name"] = "With capitals"
    lines = errors_of(small)
    assert any(line.startswith("name: ") for line in lines)
    assert any(line.startswith("languages.xx.corpus.wiki: ") for line in lines)


def test_what_means_nothing_where_nothing_is_trained_is_refused(small):
    small["tasks"] |= {
        "a": {"language": "sw", "kind": "similarity", "published_as": {"task": "1"}}
        | {"url": {"train": "https://x.org/a.csv", "test": "https://x.org/b.csv"}},
        "b": {"language": "sw", "kind": "retrieval"}
        | {"hub": {"dataset": "x/y", "test": None, "columns": {"text": "q", "text_pair": "q"}}},
        "c": {"language": "sw", "kind": "similarity"}
        | {"hub": {"dataset": "x/y", "labels": ["unlike", "alike"], "train": "unlabelled"}},
        "d": {"language": "sw", "kind": "retrieval", "test": "d.tsv", "text_pair_column": "b"}
        | {"finetuning": {"num_train_epochs": 3}},
    }
    lines = errors_of(small)
    for said in (
        "tasks.a.published_as: no paper prints a task of kind similarity",
        "tasks.a.url.train: a task of kind similarity has a test split alone",
        "tasks.b.hub.columns.text_pair: this is the column of text too",
        "tasks.b.hub.test: missing; name the split that is scored",
        "tasks.c.hub.train: a task of kind similarity has a test split alone",
        "tasks.c.hub.labels: a task of kind similarity has no names of labels; remove it",
        "tasks.d.finetuning: a task of kind retrieval is scored without fine-tuning; remove it",
    ):
        assert any(line.startswith(said) for line in lines), (said, lines)


def test_a_key_that_nothing_reads_is_refused(small):
    small["languages"]["sw"]["corpus"] = {
        **{"source": "dump", "file": "sw.xml.bz2", "mirror": "https://x.org/dumps"},
        **{"wiki": "swwiki", "date": "20260501"},
    }
    small["tasks"]["names"]["optional"] = True
    small["tasks"]["a"] = {"language": "sw", "kind": "classification"} | {
        "hub": {"dataset": "x/y", "columns": {"tokens": "words", "text": "body", "text_pair": "b"}}
    }
    small["tasks"]["b"] = {"language": "sw", "kind": "ner"} | {
        "hub": {"dataset": "x/y", "columns": {"tokens": "words", "tags": "t", "label": "tag"}}
    }
    small["students"]["pre"] |= {"seeds": [1, 2], "training": {"max_steps": 9, "seed": 3}}
    lines = errors_of(small)
    assert [line.partition(": ")[0] for line in lines] == [
        "languages.sw.corpus.wiki",
        "languages.sw.corpus.date",
        "languages.sw.corpus.mirror",
        "tasks.names.optional",
        "tasks.a.hub.columns.tokens",
        "tasks.a.hub.columns.text_pair",
        "tasks.b.hub.columns.label",
        "students.pre.training.seed",
    ]
    assert all("remove" in line for line in lines)
    # What has the value that it would have anyway is no mistake.
    small["languages"]["sw"]["corpus"] |= {"mirror": None, "wiki": None, "date": "latest"}
    small["tasks"]["names"]["optional"] = False
    small["tasks"]["a"]["hub"]["columns"] = {"tokens": "tokens", "text": "body"}
    small["tasks"]["b"]["hub"]["columns"]["label"] = "label"
    small["students"]["pre"]["training"]["seed"] = 1
    assert complete(small)


def test_only_tasks_that_are_compared_are_exported(small):
    small["students"]["pre"]["export"] = {"tasks": ["names", "agreement"]}
    pairs = {"language": "sw", "kind": "minimal_pairs", "test": "p.tsv", "text_pair_column": "b"}
    small["tasks"]["agreement"] = pairs
    small["experiment"]["tasks"] = ["pairs", "agreement"]
    lines = [line for line in errors_of(small) if line.startswith("students.pre.export.tasks")]
    assert len(lines) == 2
    assert "names is not among experiment.tasks; add it there" in lines[0]
    assert "agreement is scored without fine-tuning" in lines[1]


def test_what_is_exported_is_released(small):
    small["students"]["full"]["export"] = {}
    assert Paths(complete(small)).export("full")
    small["experiment"]["release"] = ["pre"]
    line = (
        "students.full.export: full is not released, so nothing of it is exported; "
        "add it to experiment.release"
    )
    # That of a base is for whoever of its students is released.
    assert errors_of(small) == [line]
    small["experiment"]["systems"].remove("full")
    assert Paths(complete(small)).export("pre")


@pytest.fixture
def taught(small) -> dict:
    """Return the small configuration with a student that a fine-tuned teacher teaches."""
    how = {"teacher": "big", "sentences": 9}
    small["systems"] = {"taught": {"student": "full", "task_distillation": how}}
    small["experiment"]["systems"].append("taught")
    return small


def test_a_taught_student_is_compared_beside_itself_in_its_languages(taught):
    taught["experiment"]["systems"].remove("full")
    assert errors_of(taught) == [
        "systems.taught.student: full is not compared; add it to experiment.systems beside taught"
    ]
    taught["experiment"]["systems"].append("full")
    taught["students"]["full"]["languages"] = ["sl"]
    assert complete(taught).systems["taught"].languages == ["sl"]
    taught["systems"]["taught"]["languages"] = ["sl", "sw"]
    (line,) = errors_of(taught)
    assert line == "systems.taught.languages: full is not made for sw; add it there"


def test_a_taught_student_has_the_seeds_of_the_student(taught):
    taught["students"]["full"]["seeds"] = [1, 4]
    settings = restore(dump(complete(taught)))
    assert settings.experiment.systems[-2:] == ["taught", "taught@4"]
    assert [settings.systems[name].student for name in ("taught", "taught@4")] == ["full", "full@4"]
    paths = Paths(settings)
    assert paths.model("taught@4", "sl") == paths.model("full@4", "sl")
    assert complete(taught | {"smoke": True}).systems["taught"].task_distillation.sentences == 9
