"""Students side by side on one pass of their teacher end as each would alone, to the byte."""

import os
import shlex
import signal
from pathlib import Path

import pytest
import torch
from corpus_helpers import needs_data
from training_helpers import (
    BUDGET,
    STEPS,
    distil,
    history_of,
    in_a_process,
    in_processes,
    options,
    state_folder,
    wait_for,
    weights_of,
    write_student,
)

from eliquare import stage
from eliquare.distillation.objective import Distillation
from eliquare.distillation.teacher import Teacher
from eliquare.training.history import whole_lines
from eliquare.training.terms import Losses

pytestmark = needs_data


@pytest.fixture(scope="module")
def students(world, tmp_path_factory) -> dict[str, dict]:
    """Ablations of loss, temperature, initialisation and shape: the options of each."""
    folder = tmp_path_factory.mktemp("students")
    narrow = write_student(
        world.teacher,
        folder / "narrow",
        hidden_size=24,
        intermediate_size=40,
        heads=4,
        initialisation="blank",
    )
    last = write_student(world.teacher, folder / "last", initialisation="last")
    shallow = write_student(world.teacher, folder / "shallow", layers=1)
    return {
        "hotter": {"temperature": 4.0},
        "masked": {"positions": "masked", "learning_rate": 1e-3},
        "narrow": {"student": narrow},
        "last": {"student": last, "freeze": ["embeddings"]},
        "shallow": {"student": shallow, "cosine": 0, "validations": 2},
        "layers": {"preset": "tinybert"},
        "relations": {"relations": '{"weight": 1, "heads": 4}', "warmup_share": 0.5},
    }


@pytest.fixture(scope="module")
def alone(world, students, tmp_path_factory) -> dict[str, bytes]:
    """The weights of each, trained by itself."""
    folder = tmp_path_factory.mktemp("alone")
    return {
        name: weights_of(distil(world, folder / name, **changes))
        for name, changes in students.items()
    }


def words(world, output: Path, **changes) -> str:
    """A student in one word of --beside."""
    changed = {name.replace("_", "-"): value for name, value in changes.items()}
    own = {"student": world.student} | BUDGET | changed | {"output": output}
    return shlex.join(options({name: value for name, value in own.items() if name != "threads"}))


def beside(world, folder: Path, students: dict[str, dict]) -> list[str]:
    return [words(world, folder / name, **changes) for name, changes in students.items()]


def test_each_ends_as_it_would_alone(world, students, alone, tmp_path, capsys, monkeypatch):
    read = Teacher._read
    batches = []
    monkeypatch.setattr(
        Teacher, "_read", lambda self, batch: (batches.append(1), read(self, batch))
    )
    own = distil(world, tmp_path / "own", beside=beside(world, tmp_path, students))
    validations = STEPS // 4
    assert len(batches) == STEPS + validations * 3, "the teacher reads each batch once"
    assert weights_of(own) == weights_of(world.whole)
    assert f"{len(students)} more beside it" in capsys.readouterr().err
    for name, changes in students.items():
        assert not (tmp_path / name).exists(), "each is written by its own command"
        output = distil(world, tmp_path / name, **changes)
        said = capsys.readouterr().err
        assert f"checkpoint-{STEPS}" in said and "tokens_per_second" not in said
        assert weights_of(output) == alone[name], name
        assert [line["step"] for line in history_of(output) if "loss" in line] == [
            *range(1, STEPS + 1)
        ]
    assert len(batches) == STEPS + validations * 3


def test_killed_again_and_again_each_ends_as_alone(world, students, alone, tmp_path):
    some = {name: students[name] for name in ("hotter", "narrow", "relations")}
    others = beside(world, tmp_path, some)
    output, kills = tmp_path / "own", 0
    while not output.exists():
        process = in_a_process(world, output, beside=others, checkpoint_steps=3)
        begun = len(whole_lines(state_folder(output) / "history.jsonl"))
        caught = wait_for(
            lambda begun=begun: (
                len(whole_lines(state_folder(output) / "history.jsonl")) > begun + 6
            ),
            process,
        )
        process.kill()
        process.join(120)
        kills += caught
        assert kills < 20
    assert kills >= 2
    assert weights_of(output) == weights_of(world.whole)
    for name, changes in some.items():
        assert weights_of(distil(world, tmp_path / name, **changes)) == alone[name], name


def test_one_that_joins_later_catches_up(world, students, alone, tmp_path):
    """Three steps without it; then it is trained alone for three steps, and from there with it."""
    for _ in range(3):
        with pytest.raises(stage.StoppedEarly):
            distil(world, tmp_path / "own", max_minutes=1e-9)
    some = {"masked": students["masked"]}
    own = distil(world, tmp_path / "own", beside=beside(world, tmp_path, some))
    assert weights_of(own) == weights_of(world.whole)
    assert weights_of(distil(world, tmp_path / "masked", **some["masked"])) == alone["masked"]


def test_more_and_fewer_steps(world, tmp_path):
    lengths = {"shorter": {"steps": 10}, "longer": {"steps": 30, "validations": 7}}
    expected = {
        name: weights_of(distil(world, tmp_path / f"alone-{name}", **changes))
        for name, changes in lengths.items()
    }
    own = distil(world, tmp_path / "own", beside=beside(world, tmp_path, lengths))
    assert weights_of(own) == weights_of(world.whole)
    assert (state_folder(tmp_path / "longer") / f"checkpoint-{STEPS}").exists()
    for name, changes in lengths.items():
        assert weights_of(distil(world, tmp_path / name, **changes)) == expected[name], name


def test_one_that_fails_does_not_stop_the_others(world, students, tmp_path, monkeypatch, capsys):
    compute = Distillation.__call__

    def poisoned(self, model, batch, progress=0.0):
        losses = compute(self, model, batch, progress)
        if progress > 0.3 and self.terms["kl"].settings["temperature"] == 4.0:
            return Losses(losses.loss * torch.nan, losses.terms)
        return losses

    monkeypatch.setattr(Distillation, "__call__", poisoned)
    others = beside(world, tmp_path, {"hotter": students["hotter"]})
    own = distil(world, tmp_path / "own", beside=others, checkpoint_steps=4)
    said = capsys.readouterr().err
    assert f"warning: going on without {state_folder(tmp_path / 'hotter')}: step 9" in said
    assert weights_of(own) == weights_of(world.whole)
    with pytest.raises(stage.Failure, match="step 9: the gradient's norm is not a number"):
        distil(world, tmp_path / "hotter", **students["hotter"])


def test_those_done_or_busy_or_missing_are_left_out(world, students, alone, tmp_path, capsys):
    done = distil(world, tmp_path / "hotter", **students["hotter"])
    stamp = done.stat().st_mtime_ns
    busy = in_a_process(world, tmp_path / "masked", **students["masked"])
    assert wait_for(lambda: (state_folder(tmp_path / "masked") / "history.jsonl").exists(), busy)
    os.kill(busy.pid, signal.SIGSTOP)
    some = {name: students[name] for name in ("hotter", "masked")}
    some["missing"] = {"student": tmp_path / "nowhere"}
    capsys.readouterr()
    own = distil(world, tmp_path / "own", beside=beside(world, tmp_path, some))
    said = capsys.readouterr().err
    os.kill(busy.pid, signal.SIGCONT)
    busy.join(120)
    assert "beside it" not in said and "going on without" in said and "nowhere" in said
    assert weights_of(own) == weights_of(world.whole)
    assert done.stat().st_mtime_ns == stamp and not state_folder(done).exists()
    assert weights_of(tmp_path / "masked") == alone["masked"]


def test_other_batches_are_refused(world, tmp_path):
    for change in ({"batch_size": 2}, {"seed": 5}, {"fraction": 0.5}, {"precision": "bf16"}):
        name = next(iter(change)).replace("_", "-")
        with pytest.raises(stage.InputError, match=f"--{name} is .*the same batches"):
            distil(world, tmp_path / "own", beside=[words(world, tmp_path / "other", **change)])


def test_in_two_processes_too(world, students, tmp_path):
    settings = {"steps": 4, "validations": 2, "batch_size": 2, "accumulation": 2}
    some = {name: students[name] | settings for name in ("hotter", "narrow")}
    for name, changes in some.items():
        assert in_processes(world, tmp_path / f"alone-{name}", 2, **changes) == [0, 0]
    others = beside(world, tmp_path, {"narrow": some["narrow"]})
    assert in_processes(world, tmp_path / "hotter", 2, **some["hotter"], beside=others) == [0, 0]
    assert in_processes(world, tmp_path / "narrow", 2, **some["narrow"]) == [0, 0]
    for name in some:
        assert weights_of(tmp_path / name) == weights_of(tmp_path / f"alone-{name}"), name
