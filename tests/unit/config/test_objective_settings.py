"""Objectives as settings: weights over the training, presets, and what differs from them."""

import math
from typing import get_args

import pytest
from pydantic import ValidationError

from eliquare.config.errors import explain
from eliquare.config.objective import PRESETS, Objective, Preset, Weight


def objective(**written) -> Objective:
    return Objective.model_validate(written, strict=True)


def test_weights_over_the_training():
    assert [Weight.model_validate(2).at(share) for share in (0, 0.3, 1)] == [2, 2, 2]
    falling = Weight.model_validate({"from": 5, "to": 1})
    assert [falling.at(share) for share in (-1, 0, 0.25, 1, 2)] == [5, 5, 4, 1, 1]
    wave = Weight.model_validate({"from": 5, "to": 1, "shape": "cosine"})
    for share in (0, 0.1, 0.5, 0.9, 1):
        assert wave.at(share) == pytest.approx(3 + 2 * math.cos(math.pi * share))
    bent = Weight.model_validate({"points": [[0, 5], [0.5, 1], [1, 0]]})
    assert [bent.at(share) for share in (0, 0.25, 0.5, 0.75, 1)] == [5, 3, 1, 0.5, 0]
    for each in (falling, wave, bent):
        shares = [(index + 0.5) / 1000 for index in range(1000)]
        assert each.mean == pytest.approx(sum(map(each.at, shares)) / 1000, rel=1e-5)
        assert not each.constant
        assert Weight.model_validate(each.model_dump(mode="json")) == each


@pytest.mark.parametrize(
    "value",
    [
        -1,
        True,
        "5",
        None,
        math.inf,
        math.nan,
        {},
        {"from": 1},
        {"from": 1, "to": 2, "shape": "sine"},
        {"points": []},
        {"points": [[0, 1]]},
        {"points": [[0, 1], [0.5, 2]]},
        {"points": [[0, 1], [0, 2], [1, 3]]},
        {"points": [[0, 1], [1, -1]]},
        {"points": [[0], [1]]},
        {"points": [[], []]},
    ],
)
def test_weights_that_cannot_be(value):
    with pytest.raises(ValidationError):
        Weight.model_validate(value, strict=True)


def test_presets_and_what_differs_from_them():
    assert get_args(Preset) == tuple(PRESETS)
    for name, (source, terms) in PRESETS.items():
        if terms:
            assert len(source) > 20
            assert objective(preset=name).in_words()
    assert objective().in_words() == (
        "5 kl (direction forward, temperature 2.0, positions all) + 2 mlm + 1 cosine"
    )
    assert list(objective(preset="cruz2024-code").terms()) == ["hidden", "attention"]
    cruz = objective(preset="cruz2024").kl
    assert (cruz.direction, cruz.temperature) == ("reverse", 4.0)
    half = objective(preset="gurgurov2025").terms()
    assert {name: term.weight.at(0) for name, term in half.items()} == {"mse": 0.5, "mlm": 0.5}
    for weight, said in (
        ({"from": 5, "to": 1}, "5 to 1"),
        ({"from": 5, "to": 1, "shape": "cosine"}, "5 to 1 (cosine)"),
        ({"points": [[0, 5], [0.3, 2], [1, 0]]}, "5 to 2 at 30% to 0"),
    ):
        assert objective(preset="none", mlm=weight).in_words() == f"{said} mlm"
    changed = objective(kl={"direction": "jsd", "temperature": 3}, mlm=0, hidden=0.1).terms()
    assert list(changed) == ["kl", "cosine", "hidden"]
    assert (changed["kl"].direction, changed["kl"].positions) == ("jsd", "all")
    assert changed["kl"].weight.at(0.5) == 5
    assert objective(kl={"from": 5, "to": 0}).kl.weight.mean == 2.5
    assert objective(preset="none", hidden={"layers": {"1": 2}}).hidden.weight.mean == 1


def test_all_ways_to_write_an_objective_are_one():
    ways = [
        objective(),
        objective(preset="distilbert"),
        objective(preset="none", kl=5, mlm={"weight": 2}, cosine={"from": 1, "to": 1}),
        objective(kl={"temperature": 2}, mse=0, hidden={"weight": 0, "layers": {"1": 1}}),
    ]
    assert all(way.written_out() == ways[0].written_out() for way in ways)
    # What a stage reads from its options is the same objective.
    assert Objective.model_validate(ways[1].written_out()).terms() == ways[1].terms()


@pytest.mark.parametrize("written", [-1, {"from": 5, "to": -1}, {"points": [[0, -1], [1, 2]]}])
def test_a_negative_weight_is_named(written):
    with pytest.raises(ValidationError, match="expected 0 or more, found -1"):
        objective(kl=written)


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ({"hiden": 1}, "hiden"),
        ({"preset": "minilmm"}, "preset"),
        ({"kl": {"directon": "jsd"}}, "kl.directon"),
        ({"kl": {"direction": "back"}}, "kl.direction"),
        ({"kl": {"temperature": 0}}, "kl.temperature"),
        ({"hidden": {"layers": [1, 2]}}, "hidden.layers"),
        ({"relations": {"heads": 0}}, "relations.heads"),
        ({"kl": -1}, "kl.weight"),
        ({"kl": 0, "cosine": 0, "mlm": 0}, "no term"),
    ],
)
def test_objectives_that_cannot_be(written, key):
    with pytest.raises(ValidationError) as caught:
        objective(**written)
    (line,) = explain(caught.value)
    assert line.startswith(key)
