"""Trying a recipe: what works passes, what cannot work is told with its step."""

import json
import math

import pytest
from training_helpers import corpus, options, write_model

from eliquare import smoke, stage

DISTILLATION = "--steps 20000 --batch-size 64 --accumulation 50 --learning-rate 5e-4"
SETTINGS = {
    "sequences-options": "--max-length 48",
    "masking-options": "--smoothing 0.7",
    "student-options": "--layers 2",
    "distillation-options": DISTILLATION,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("smoke"))


def try_it(world, output, **changes) -> dict:
    """Run the stage by its options; the file that it leaves."""
    settings = SETTINGS | {name.replace("_", "-"): value for name, value in changes.items()}
    settings |= {"documents": world.documents, "output": output}
    words = [word for name, value in settings.items() for word in one(name, value)]
    smoke.run(smoke.parser().parse_args(words))
    return json.loads(output.read_text())


def one(name, value) -> list[str]:
    return [f"--{name}={value}"] if name.endswith("options") else options({name: value})


def check(result: dict) -> None:
    assert len(result["losses"]) == smoke.STEPS
    assert all(math.isfinite(loss) for loss in result["losses"])


def test_a_recipe_with_a_fetched_teacher(world, tmp_path):
    teacher = write_model(world.tokenizer, tmp_path / "teacher", max_positions=128)
    cut = "--share-of-sentences 0.01"
    check(try_it(world, tmp_path / "made.json", teacher=teacher, vocabulary_options=cut))


def test_a_recipe_whose_teacher_is_trained_and_conditioned_here(world, tmp_path):
    shape = "--layers 3 --hidden-size 16 --intermediate-size 32 --heads 2 --max-positions 64"
    check(
        try_it(
            world,
            tmp_path / "made.json",
            tokenizer=world.tokenizer,
            pretraining_options=f"{shape} --epochs 3",
            conditioning_options="--epochs 1.5 --accumulation 4",
        )
    )


@pytest.mark.parametrize("method", ["extension", "replacement"])
def test_a_recipe_with_new_sub_words(world, tmp_path, method):
    teacher = write_model(world.tokenizer, tmp_path / "teacher", max_positions=128)
    # More than the sliver has; the trial adds a few.
    new = f"--add 5000 --least 50 --method {method} --initialisation similar"
    result = try_it(
        world,
        tmp_path / "made.json",
        teacher=teacher,
        vocabulary_options="--share-of-sentences 0.01",
        amplification_options=new,
    )
    check(result)


def test_a_teacher_alone(world, tmp_path):
    shape = "--layers 3 --hidden-size 16 --intermediate-size 32 --heads 2 --max-positions 64"
    settings = {"student_options": "", "distillation_options": ""}
    settings |= {"tokenizer": world.tokenizer, "conditioning_options": "--epochs 1.5"}
    made = tmp_path / "made.json"
    check(try_it(world, made, pretraining_options=f"{shape} --epochs 3", **settings))
    with pytest.raises(stage.InputError, match=r"^teacher: "):
        try_it(world, made, pretraining_options=f"{shape} --epochs 3 --heads 3", **settings)


def test_a_learning_rate_that_explodes_is_told(world, tmp_path):
    teacher = write_model(world.tokenizer, tmp_path / "teacher", max_positions=128)
    wild = f"{DISTILLATION} --learning-rate 1e30"
    with pytest.raises(stage.Failure, match=r"^distillation: step"):
        try_it(world, tmp_path / "made.json", teacher=teacher, distillation_options=wild)
    assert not (tmp_path / "made.json").exists()


def test_more_layers_than_the_teacher_has_are_told(world, tmp_path):
    teacher = write_model(world.tokenizer, tmp_path / "teacher", max_positions=128)
    with pytest.raises(stage.InputError, match=r"^student: .*layers"):
        try_it(world, tmp_path / "made.json", teacher=teacher, student_options="--layers 9")


def test_sequences_longer_than_the_model_are_told(world, tmp_path):
    teacher = write_model(world.tokenizer, tmp_path / "teacher", max_positions=128)
    with pytest.raises(stage.InputError, match="max_length"):
        try_it(world, tmp_path / "made.json", teacher=teacher, sequences_options="--max-length 512")
