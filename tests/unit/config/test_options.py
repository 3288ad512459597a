"""Options of stages: made from the models, as the command line reads them."""

import copy
import json
from pathlib import Path

import pytest

from eliquare import cli
from eliquare.config import corpus, model, options, tasks
from eliquare.config.load import complete


def parsed(words: list[str]) -> dict[str, list[str]]:
    """Return the values of each option."""
    found: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            found[word] = []
        else:
            found[list(found)[-1]].append(word)
    return found


def names_of(*models) -> set[str]:
    return {cli.option_name(key) for each in models for key in each.model_fields}


@pytest.fixture
def settings(small):
    small["students"]["full"] |= {"freeze": ["positions"], "teachers": {"big": 2, "again": 1}}
    small["teachers"]["again"] = {"source": "folder", "model": "m"}
    small["students"]["post"]["vocabulary"] = "sentences"
    del small["students"]["pre"]["vocabulary"]
    return complete(small)


def test_words_are_sorted_quoted_and_leave_out_what_is_not_given():
    values = {
        "to_b": True,
        "a": None,
        "c": [],
        "d": ["x y", 1],
        "e": False,
        "f": {"z": 1, "k": "ä"},
    }
    words = options.words(values)
    assert words == ["--d", "x y", "1", "--no-e", "--f", '{"k": "ä", "z": 1}', "--to-b"]


@pytest.mark.parametrize(
    "of",
    [
        corpus.DocumentFilter,
        corpus.Masking,
        model.SelectionRule,
        model.ExtensionRule,
        model.Benchmark,
        model.StudentShape,
        model.Shape,
        model.Training,
    ],
)
def test_options_come_from_the_models_and_are_read_back(of):
    """What the command line reads is the settings that the options were made from."""

    class Of(of, cli.Options):
        pass

    def stage(options: Of) -> None:
        """Do nothing."""

    value = of(top_k=9) if of is model.SelectionRule else of()
    words = options.words(value, of)
    assert set(parsed(words)) <= {
        name.replace("--", prefix, 1) for name in names_of(of) for prefix in ("--", "--no-")
    }
    read = cli.parse(stage, "eliquare test", words)
    assert read.model_dump(mode="json") == value.model_dump(mode="json")


def test_a_distillation_is_told_all_that_decides_its_result(settings):
    found = parsed(options.distillation(settings, "full"))
    training = names_of(model.Training) - {cli.option_name(key) for key in model.EXECUTION_KEYS}
    assert set(found) <= training | names_of(model.StudentShape) | {
        "--objective",
        "--freeze",
        "--data-fraction",
        "--teacher-weights",
        "--no-torch-compile",
        "--no-disable-dropout",
    }
    assert {"--gpus", "--seed", "--num-train-epochs"} <= set(found)
    assert json.loads(found["--objective"][0]) == settings.students["full"].objective.written_out()
    # The weights of its own teacher, then of the others by name.
    assert found["--teacher-weights"] == ["2.0", "1.0"]
    assert found["--freeze"] == ["positions"]
    execution = parsed(options.execution(settings.students["full"].training))
    assert set(execution) == {"--checkpoint-minutes"}


def test_a_student_reduced_afterwards_and_its_label_change_no_options(small):
    before = options.distillation(complete(small), "full")
    small["students"]["full"]["label"] = "Another"
    small["students"]["full"]["training"] |= {"threads": 7, "checkpoint_minutes": 1}
    small["students"]["full"]["objective"] = {"preset": "distilbert", "mlm": {"weight": 2}}
    assert options.distillation(complete(small), "full") == before
    small["students"]["full"]["training"]["gpus"] = 2
    assert options.distillation(complete(small), "full") != before


def test_a_teacher_is_told_its_shape_only_if_it_has_none_yet(small):
    training = {"max_steps": 1}
    small["teachers"]["adapted"] = {"source": "adapt", "teacher": "big", "training": training}
    teachers = complete(small).teachers
    assert "--hidden-size" in parsed(options.pretraining(teachers["big"]))
    adapted = parsed(options.pretraining(teachers["adapted"]))
    assert "--hidden-size" not in adapted
    assert adapted["--max-steps"] == ["1"]


def test_tasks_of_a_language_hold_their_own_fine_tuning(settings):
    (task,) = map(json.loads, parsed(options.tasks(settings, "sw", "full"))["--tasks"])
    assert task["name"] == "pairs"
    assert task["finetuning"]["num_train_epochs"] == 3
    assert set(task) <= {"name", "finetuning", *tasks.TaskData.model_fields}
    assert set(task["finetuning"]) <= set(tasks.Finetuning.model_fields)


def test_models_are_kept_and_exported_only_where_the_recipe_asks(small):
    before = options.tasks(complete(small), "sl", "pre")
    assert options.export(complete(small), "pre", "sl") == []
    small["students"]["pre"]["export"] = {"tasks": ["names"], "formats": ["onnx", "static"]}
    settings = complete(small)
    (kept,) = map(json.loads, parsed(options.tasks(settings, "sl", "pre"))["--tasks"])
    assert kept["keep_model"] is True
    # Of no other system, so that nothing is made again.
    assert options.tasks(settings, "sl", "full") == options.tasks(settings, "sl", "big") == before
    given = parsed(options.export(settings, "pre", "sl"))
    assert given["--formats"] == ["onnx", "static"]
    assert given["--margin"] == ["0.01"]
    assert given["--dimensions"] == ["256"]
    assert given["--sequence-length"] == [str(settings.benchmark.sequence_length)]
    assert [json.loads(task) for task in given["--tasks"]] == [kept]
    # In Swahili there is no such task: only static embeddings are scored there.
    (task,) = map(json.loads, parsed(options.export(settings, "pre", "sw"))["--tasks"])
    assert (task["name"], "keep_model" in task) == ("pairs", False)
    small["students"]["pre"]["export"]["formats"] = ["onnx"]
    assert "--tasks" not in parsed(options.export(complete(small), "pre", "sw"))


def test_a_teacher_of_tasks_labels_for_all_that_it_teaches(small):
    before = {name: options.tasks(complete(small), "sl", name) for name in ("big", "full")}
    small["systems"] = {
        f"of-{number}": {
            "student": "full",
            "task_distillation": {"teacher": "big", "sentences": number},
        }
        for number in (0, 5, 9)
    }
    small["experiment"]["systems"] += small["systems"]
    settings = complete(small)
    teacher, unlabelled = parsed(options.tasks(settings, "sl", "big")), "unlabelled-9.txt"
    assert json.loads(teacher["--tasks"][0])["keep_logits"] is True
    assert Path(teacher["--unlabelled"][0]).name == unlabelled
    for number in (0, 5):
        given = parsed(options.tasks(settings, "sl", f"of-{number}"))
        how = {"teacher": "big", "sentences": number, "temperature": 2.0, "weight": 0.5}
        assert json.loads(given["--task-distillation"][0]) == how
        assert ("--unlabelled" in given) == bool(number)
    # Of no other system, so that nothing is made again.
    assert options.tasks(settings, "sl", "full") == before["full"]
    without = copy.deepcopy(small) | {"systems": {"of-0": small["systems"]["of-0"]}}
    without["experiment"]["systems"] = ["big", "full", "of-0"]
    assert "--unlabelled" not in options.tasks(complete(without), "sl", "big")


def test_what_needs_no_finetuning_has_options_of_its_own(small):
    pairs = {"language": "sw", "kind": "minimal_pairs", "test": "p.tsv", "text_pair_column": "b"}
    small["tasks"]["agreement"] = pairs
    settings = complete(small)
    (task,) = map(json.loads, parsed(options.intrinsic(settings, "sw"))["--tasks"])
    assert task == {"name": "agreement", "text_column": "text", "label_column": "label", **pairs}
    assert "agreement" not in "".join(options.tasks(settings, "sw", "full"))
    assert options.intrinsic(settings, "sl") == []
    smoke = parsed(options.intrinsic(complete(small | {"smoke": True}), "sw"))
    assert smoke["--max-pairs"] == ["40"]


def test_texts_with_labels_are_scored_without_finetuning_too(small):
    news = {"language": "sw", "kind": "classification", "train": "a.tsv"}
    small["tasks"]["news"] = news | {"finetuning": {"max_train_samples": 50}}
    (task,) = map(json.loads, parsed(options.intrinsic(complete(small), "sw"))["--tasks"])
    # A setting of fine-tuning would change the draws.
    assert news.items() <= task.items()
    assert "max_train_samples" not in task


def test_several_gpus_are_several_processes():
    assert options.launcher(model.Training()) == ["python", "-m", "eliquare"]
    several = options.launcher(model.Training(gpus=4))
    assert several[-4:] == ["--nproc-per-node", "4", "-m", "eliquare"]
