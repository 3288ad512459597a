"""The terms of an objective: their names, weights and settings, from a configuration."""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from eliquare.distillation.presets import DEFAULT, PRESETS
from eliquare.distillation.schedule import Schedule, schedule
from eliquare.stage import InputError


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _layer(value: Any) -> bool:
    return str(value).isdecimal()


def _layer_map(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and bool(value)
        and all(_layer(one) and _layer(other) for one, other in value.items())
    )


def one_of(*words: str):
    """A setting that is one of these words."""
    return words[0], lambda value: value in words, f"one of {', '.join(words)}"


LAYERS = (None, _layer_map, 'a map of student layers to teacher layers, as {"1": 2, "2": 4}')
POSITIONS = one_of("all", "masked")
# For each term its settings: the default, the test, and what is expected.
SETTINGS = {
    "kl": {
        "direction": one_of("forward", "reverse", "jsd"),
        "temperature": (2.0, _number, "a number above 0"),
        "positions": POSITIONS,
    },
    "mse": {"positions": POSITIONS},
    "mlm": {},
    "cosine": {},
    "hidden": {"layers": LAYERS},
    "attention": {"of": one_of("scores", "probabilities"), "layers": LAYERS},
    "relations": {
        "heads": (None, lambda value: value is None or _whole(value), "1 or more"),
        "layers": LAYERS,
    },
}
LOGIT_TERMS = ("kl", "mse", "mlm")
# What can be compared where student and teacher cut the text differently.
PAIRED_TERMS = ("kl", "cosine", "mlm")
# For these, settings may stand beside the terms.
OF_KL = ("temperature", "positions")


@dataclass(frozen=True)
class Term:
    """One term: its weight over the training, and its settings."""

    name: str
    weight: Schedule
    settings: dict[str, Any]

    @property
    def on_logits(self) -> bool:
        """Whether it reads logits."""
        return self.name in LOGIT_TERMS

    @property
    def of_teacher(self) -> bool:
        """Whether it reads a teacher."""
        return self.name != "mlm"


def terms(objective: dict[str, Any], where: str = "objective.") -> dict[str, Term]:
    """The terms that take part, in a fixed order, from an objective as it is written.

    ``objective`` has a preset (electronics2023 by default) and, by name, what differs from it: a
    weight, or a mapping with the weight and settings; a weight of 0 leaves a term out.
    ``temperature`` and ``positions`` may stand beside the terms, for the KL. Raises InputError,
    naming the key behind ``where``, for what no term has and an objective that asks for nothing.
    """
    preset = objective.get("preset") or DEFAULT
    if preset not in PRESETS:
        raise InputError(f"{where}preset: there is no {preset!r}{_close(preset, PRESETS)}")
    written = {name: dict(_mapping(value)) for name, value in PRESETS[preset][1].items()}
    for name, value in objective.items():
        if name in ("preset", *OF_KL) or value is None:
            continue
        if name not in SETTINGS:
            raise InputError(f"{where}{name}: there is no such term{_close(name, SETTINGS)}")
        written[name] = written.get(name, {"weight": 1.0}) | _mapping(value)
    for key in OF_KL:
        if objective.get(key) is not None and "kl" in written:
            own = _mapping(objective.get("kl") or {})
            written["kl"].setdefault(key, None)
            written["kl"][key] = own.get(key, objective[key])
    found = {
        name: _term(name, written[name], f"{where}{name}") for name in SETTINGS if name in written
    }
    found = {name: term for name, term in found.items() if term.weight.mean > 0}
    if not found:
        raise InputError(
            f"{where}{', '.join(written)}: the weights of all terms are 0: nothing to train for"
        )
    return found


def _term(name: str, written: dict[str, Any], where: str) -> Term:
    known = SETTINGS[name]
    for key in written:
        if key != "weight" and key not in known:
            raise InputError(f"{where}: there is no setting {key!r}{_close(key, known)}")
    settings = {}
    for key, (default, fits, expected) in known.items():
        settings[key] = written.get(key, default)
        if not fits(settings[key]):
            raise InputError(f"{where}.{key}: expected {expected}; found {settings[key]!r}")
    return Term(name, schedule(written.get("weight", 1.0), f"{where}.weight"), settings)


def _mapping(value: Any) -> dict[str, Any]:
    """A term as it is written: settings, a schedule, or a weight alone."""
    if isinstance(value, dict) and not {"from", "to", "points"} & set(value):
        return value
    return {"weight": value}


def _close(word: str, known) -> str:
    close = difflib.get_close_matches(str(word), known, n=1)
    names = ", ".join(known) or "none"
    return f"; did you mean {close[0]!r}?" if close else f"; known are {names}"


def weights_at(found: dict[str, Term], progress: float) -> dict[str, float]:
    """The weight of each term when this share of the training is done."""
    return {name: term.weight.at(progress) for name, term in found.items()}


def changing(found: dict[str, Term], weights: dict[str, float]) -> dict[str, float]:
    """Those of the weights that change over the training."""
    return {name: weights[name] for name, term in found.items() if not term.weight.constant}


def resolved(found: dict[str, Term]) -> dict[str, Any]:
    """The terms written out in full: an objective that says the same, whatever said it first."""
    written: dict[str, Any] = {"preset": "none"}
    for name, term in found.items():
        points = [list(point) for point in term.weight.points]
        weight: Any = {"points": points}
        if term.weight.constant:
            weight = points[0][1]
        elif term.weight.cosine:
            weight = {"from": points[0][1], "to": points[-1][1], "shape": "cosine"}
        written[name] = {"weight": weight} | term.settings
    return written


def option(text: str, where: str) -> Any:
    """A term as an option of the command has it: a number, or JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise InputError(
            f'{where}: expected a number or JSON, as {{"weight": 1}}; found {text!r}'
        ) from None


def in_words(found: dict[str, Term]) -> str:
    """The terms with their weights and settings, for a card."""
    words = []
    for name, term in found.items():
        ends = f"{term.weight.at(0):g}"
        if not term.weight.constant:
            ends = " to ".join(f"{weight:g}" for _, weight in term.weight.points)
        settings = ", ".join(
            f"{key} {value if isinstance(value, str) else json.dumps(value)}"
            for key, value in term.settings.items()
            if value is not None
        )
        words.append(f"{ends} {name}" + (f" ({settings})" if settings else ""))
    return " + ".join(words)


def check_paired(names: Iterable[str], where: str = "--") -> None:
    """Raise an InputError for a term that needs one tokenizer on both sides."""
    for name in names:
        if name not in PAIRED_TERMS:
            raise InputError(
                f"{where}{name}: not for a student that cuts the text otherwise than its teacher; "
                "its terms are kl, cosine and mlm"
            )
