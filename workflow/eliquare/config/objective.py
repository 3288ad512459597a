"""The objective of a distillation: its terms, their weights over the training, the presets.

An objective is a preset from the literature plus, by name, what differs from it. A term is written
as a weight (0 leaves it out) or as a mapping of its weight and settings; a weight is a number or a
schedule over the training.
"""

import bisect
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic_core import CoreSchema

from eliquare.config.base import Problem, Settings, matching

Positions = Literal["all", "masked"]


class Weight(Settings):
    """A term's weight over the finished share of the training, from 0 to 1.

    Written as a number, as ``{from: 5, to: 1}`` (``shape: cosine`` for half a cosine), or as
    ``{points: [[0, 5], [0.5, 2], [1, 0]]}``.
    """

    points: list[list[float]]
    shape: Literal["linear", "cosine"] = "linear"

    @model_validator(mode="before")
    @classmethod
    def _from_number_or_ends(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"points": [[0.0, float(value)], [1.0, float(value)]]}
        if isinstance(value, dict) and {"from", "to"} <= set(value):
            rest = {key: value[key] for key in value if key not in ("from", "to")}
            return rest | {"points": [[0.0, value["from"]], [1.0, value["to"]]]}
        if isinstance(value, Weight) or (isinstance(value, dict) and "points" in value):
            return value
        raise ValueError(
            f"expected 0 or more, or a schedule as {{from: 5, to: 1}}, found {value!r}"
        )

    def problems(self) -> Iterator[Problem]:
        """Yield a problem where the points are no schedule."""
        shares = [point[0] for point in self.points if len(point) == 2]
        rising = [*shares[:1], *shares[-1:]] == [0, 1] and all(a < b for a, b in pairwise(shares))
        if len(shares) < len(self.points) or not rising:
            yield (), "expected shares from 0 to 1 with weights: [[0, 5], [0.5, 2], [1, 0]]"
        elif (least := min(weight for _, weight in self.points)) < 0:
            yield (), f"expected 0 or more, found {least:g}"

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe all ways to write a weight."""
        points = handler.resolve_ref_schema(handler(core_schema))
        number = {"type": "number", "minimum": 0}
        keys = {"from": number, "to": number, "shape": points["properties"]["shape"]}
        ends = points | {"properties": keys, "required": ["from", "to"]}
        return {"anyOf": [number, ends, points]}

    @model_serializer
    def _shortest(self) -> float | dict[str, Any]:
        """Write a constant weight as a number, so that all ways to write it are one."""
        if self.constant:
            return self.points[0][1]
        return {"points": self.points, "shape": self.shape}

    def in_words(self) -> str:
        """Return the weight for people: ``5``, ``5 to 1 (cosine)``, ``5 to 2 at 30% to 0``."""
        if self.constant:
            return f"{self.points[0][1]:g}"
        (_, first), *between, (_, last) = self.points
        places = [f"{first:g}", *(f"{weight:g} at {share:.0%}" for share, weight in between)]
        return " to ".join([*places, f"{last:g}"]) + (" (cosine)" * (self.shape == "cosine"))

    def at(self, progress: float) -> float:
        """Return the weight when this share of the training is done."""
        shares = [share for share, _ in self.points]
        after = min(max(bisect.bisect_right(shares, progress), 1), len(shares) - 1)
        (start, before), (end, then) = self.points[after - 1], self.points[after]
        share = min(max((progress - start) / (end - start), 0.0), 1.0)
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return before + share * (then - before)

    @property
    def mean(self) -> float:
        """The mean weight over the training; half a cosine has the mean of a line."""
        return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(self.points))

    @property
    def constant(self) -> bool:
        """Whether the weight stays the same."""
        return len({weight for _, weight in self.points}) == 1


def as_term(value: Any) -> Any:
    """Return a term as a mapping, also where it is written as its weight alone."""
    schedule = isinstance(value, dict) and bool({"from", "to", "points"} & set(value))
    return {"weight": value} if schedule or not isinstance(value, dict | BaseModel) else value


class Term(Settings):
    """One term of the objective."""

    on_logits: ClassVar[bool] = False
    weight: Weight = Weight(points=[[0.0, 1.0], [1.0, 1.0]])
    """Weight of the term: a number or a schedule."""

    @model_validator(mode="before")
    @classmethod
    def _from_weight(cls, value: Any) -> Any:
        return as_term(value)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe a term as its weight alone, or as a mapping; a preset may give the weight."""
        settings = handler.resolve_ref_schema(handler(core_schema))
        weight = settings["properties"]["weight"]
        return {"anyOf": [{"$ref": weight["$ref"]}, settings]}


class KL(Term):
    """KL divergence of teacher and student, softened, times the temperature squared."""

    on_logits: ClassVar[bool] = True
    direction: Literal["forward", "reverse", "jsd"] = "forward"
    """`forward`: teacher to student; `reverse`: student to teacher; `jsd`: both."""
    temperature: float = Field(2.0, gt=0, description="Softens both distributions.")
    positions: Positions = Field("all", description="All positions but padding, or masked ones.")


class MSE(Term):
    """Mean squared error of the logits."""

    on_logits: ClassVar[bool] = True
    positions: Positions = Field("all", description="All positions but padding, or masked ones.")


class MLM(Term):
    """Masked language modelling: cross-entropy of the masked tokens."""

    on_logits: ClassVar[bool] = True


class Cosine(Term):
    """1 - cosine of the last hidden states."""


LayerNumber = Annotated[str, matching(r"^[0-9]{1,4}$", 'the number of a layer in quotes, as "1"')]
LayerMap = Annotated[dict[LayerNumber, Annotated[int, Field(ge=0)]], Field(min_length=1)]


class Hidden(Term):
    """Mean squared error of hidden states, through a learned projection where widths differ."""

    layers: LayerMap | None = None
    """Student layer to teacher layer, as `{"1": 2, "2": 4}`; 0 is the embeddings. By default evenly
    spread."""


class Attention(Term):
    """Mean squared error of the attention maps, head by head."""

    of: Literal["scores", "probabilities"] = "scores"
    """Scores before the softmax, or probabilities after it."""
    layers: LayerMap | None = Field(None, description="Student layer to teacher layer.")


class Relations(Term):
    """KL divergence of the relations among queries, keys and values (MiniLMv2)."""

    heads: int | None = Field(None, ge=1, description="Relation heads; by default the teacher's.")
    layers: LayerMap | None = None
    """Student layer to teacher layer; by default last to last."""


class SentenceCosine(Term):
    """1 - cosine of the embeddings of a text, for students of sentence encoders."""


class SentenceMSE(Term):
    """Squared distance of the embeddings of a text (Reimers & Gurevych 2020)."""


class Similarity(Term):
    """Mean squared error of the similarities of each text to the others of its micro-batch."""


# Objectives from the literature: the source, and the terms.
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "electronics2023": (
        "Singh, De Clercq & Lefever 2023, Sections 3 and 4: DistilBERT's terms and temperature.",
        {"kl": {"weight": 5.0, "temperature": 2.0}, "cosine": 1.0, "mlm": 2.0},
    ),
    "distilbert": (
        "Sanh et al. 2019 and its training script: KL, MLM and the cosine of last hidden states.",
        {"kl": {"weight": 5.0, "temperature": 2.0}, "cosine": 1.0, "mlm": 2.0},
    ),
    "coling2022": (
        "Singh & Lefever 2022; the temperature is not stated, 2 is that of electronics2023.",
        {"kl": {"weight": 5.0, "temperature": 2.0}, "cosine": 1.0, "mlm": 2.0},
    ),
    "cruz2024": (
        "Cruz & Aji 2025, equation 1: KL(student || teacher) and MLM; weights and temperature are "
        "not stated, 0.5 and 4 are those of main.py, whose KL has the other direction.",
        {"kl": {"weight": 0.5, "direction": "reverse", "temperature": 4.0}, "mlm": 0.5},
    ),
    "cruz2024-code": (
        "The script behind Cruz & Aji 2025: errors of hidden states and attention scores alone.",
        {"hidden": 1.0, "attention": {"weight": 1.0, "of": "scores"}},
    ),
    "tinybert": (
        "Jiao et al. 2020, general distillation: the embeddings, evenly spread layers' hidden "
        "states and attention scores.",
        {"hidden": 1.0, "attention": {"weight": 1.0, "of": "scores"}},
    ),
    "minilm": (
        "Wang et al. 2021 (MiniLMv2): query, key and value relations of the last layers.",
        {"relations": {"weight": 1.0, "heads": 48}},
    ),
    "gurgurov2025": (
        "Gurgurov et al. 2025: half MLM, half mean squared error of the logits, from a teacher "
        "adapted to the language (a teacher whose source is `adapt`).",
        {"mse": {"weight": 0.5}, "mlm": 0.5},
    ),
    "sentence": (
        "For sentence encoders: the embeddings of texts, and the last hidden states.",
        {"sentence_cosine": 1.0, "cosine": 1.0},
    ),
    "none": ("Only the terms that are named.", {}),
}
if TYPE_CHECKING:
    Preset = str
else:
    Preset = Literal[tuple(PRESETS)]
# The terms that can be compared where student and teacher segment the text differently.
EXTENSION_TERMS = ("kl", "mlm", "cosine")
# The terms that compare predictions, which a bare encoder does not make.
TERMS_OF_A_HEAD = ("kl", "mse")
# The terms on the embedding of a text, for which the teacher says how to pool.
SENTENCE_TERMS = ("sentence_cosine", "sentence_mse", "similarity")


class Objective(Settings):
    """What a student is trained for: a preset, and what differs from it.

    The terms of the preset are filled in when the settings are read, so each field holds the term
    in full, and ``terms()`` are those that take part.
    """

    preset: Preset = Field("electronics2023", description="Terms of a paper, the starting point.")
    kl: KL | None = Field(None, description="KL divergence of the softened predictions.")
    mse: MSE | None = Field(None, description="Mean squared error of the logits.")
    mlm: MLM | None = Field(None, description="Masked language modelling.")
    cosine: Cosine | None = Field(None, description="1 - cosine of the last hidden states.")
    hidden: Hidden | None = Field(None, description="Mean squared error of hidden states.")
    attention: Attention | None = Field(None, description="Mean squared error of attention maps.")
    relations: Relations | None = Field(None, description="Relations of queries, keys and values.")
    sentence_cosine: SentenceCosine | None = Field(None, description="Embeddings: 1 - cosine.")
    sentence_mse: SentenceMSE | None = Field(None, description="Embeddings: squared distance.")
    similarity: Similarity | None = None
    """Embeddings: similarities among the texts of a micro-batch."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, value: Any) -> Any:
        preset = str(value.get("preset", "electronics2023")) if isinstance(value, dict) else ""
        if preset not in PRESETS:
            return value
        filled = dict(value)
        for name, term in PRESETS[preset][1].items():
            written = as_term({} if value.get(name) is None else value[name])
            filled[name] = as_term(term) | written if isinstance(written, dict) else written
        return filled

    def problems(self) -> Iterator[Problem]:
        """Yield a problem where no term takes part."""
        if not self.terms():
            yield (), "no term has a weight above 0, so there is nothing to train for"

    def terms(self) -> dict[str, Term]:
        """Return the terms that take part, by name, in a fixed order."""
        terms = [(name, term) for name, term in self if isinstance(term, Term)]
        return {name: term for name, term in terms if term.weight.mean > 0}

    def in_words(self) -> str:
        """Return the terms with their weights and settings, as one line for people."""
        words = []
        for name, term in self.terms().items():
            settings = term.model_dump(exclude={"weight"}, exclude_none=True)
            details = ", ".join(f"{key} {value}" for key, value in settings.items())
            words.append(f"{term.weight.in_words()} {name}" + (f" ({details})" if details else ""))
        return " + ".join(words)

    def written_out(self) -> dict[str, Any]:
        """Return the objective in full without its preset, alike for all ways to write it."""
        written = self.model_dump(mode="json", exclude_none=True, include={*self.terms()})
        return {"preset": "none", **written}
