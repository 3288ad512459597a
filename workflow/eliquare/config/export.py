"""The keys of what is made of a student for use elsewhere."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from eliquare.config.base import Name, Once, Problem, Settings


class StaticShape(Settings):
    """Static embeddings, a vector per token, by the method of model2vec."""

    dimensions: int = Field(256, ge=2)
    """Numbers of a vector, by principal components; all of a narrower student."""
    sif: float = Field(1.0e-4, gt=0)
    """a of the weights a / (a + share of text): the smaller, the less frequent tokens count."""


class Export(Settings):
    """Other forms of a student, which are put beside it in `results/<name>/models/`."""

    formats: Once[Literal["onnx", "static"]] = Field(["onnx"])
    """`onnx`: for ONNX Runtime, also of the tasks' models, in int8 where `margin` allows it;
    `static`: static embeddings."""
    tasks: Once[Name] = Field([])
    """Tasks whose fine-tuned models are kept, with the seed that is best on validation."""
    margin: float = Field(0.01, ge=0, lt=1)
    """int8 is kept where its score on the task's validation split is lower by no more than this."""
    static: StaticShape = Field(StaticShape(), description="Settings of the static embeddings.")

    def problems(self) -> Iterator[Problem]:
        """Yield a problem where nothing is made, or not what there are settings of."""
        if not self.formats and not self.tasks:
            yield (), "nothing is made; give formats or tasks, or leave export out"
        elif self.static != StaticShape() and "static" not in self.formats:
            yield ("static",), "static is not among formats; add it there, or remove this key"
        if "margin" in self.model_fields_set and "onnx" not in self.formats:
            yield ("margin",), "onnx is not among formats; add it there, or remove this key"
