"""The labels that a model is trained to give, and the check that it can give those it is asked."""

from collections.abc import Sequence

from eliquare.stage import InputError
from eliquare.tasks.conllu import UPOS_TAGS
from eliquare.tasks.examples import Sentence, Text


def entity_type(tag: str) -> str:
    """The type of an IOB2 tag: "PER" for "B-PER", "O" for "O"."""
    return tag.partition("-")[2] or tag


def inventory(kind: str, train: Sequence[Sentence | Text]) -> list[str]:
    """The labels of a task, in the order of their ids.

    upos: the universal tags that occur in train, in their usual order. ner: O, then B- and I- of
    each type of entity in train. Otherwise the labels of train, sorted.
    """
    if kind == "upos":
        seen = {tag for sentence in train for tag in sentence.labels}
        return [tag for tag in UPOS_TAGS if tag in seen]
    if kind == "ner":
        types = sorted({entity_type(tag) for sentence in train for tag in sentence.labels} - {"O"})
        return ["O"] + [f"{prefix}-{name}" for name in types for prefix in "BI"]
    return sorted({text.label for text in train})


def first_unknown(example: Sentence | Text, known: frozenset[str]) -> tuple[str, int] | None:
    """The first label of an example that is not known, and its line; None if all are."""
    if isinstance(example, Text):
        return None if example.label in known else (example.label, example.line)
    for label, line in zip(example.labels, example.lines, strict=True):
        if label not in known:
            return label, line
    return None


def check(labels: Sequence[str], examples: Sequence[Sentence | Text]) -> None:
    """Raise InputError, with file and line, for the first label that train never had."""
    known = frozenset(labels)
    for example in examples:
        unknown = first_unknown(example, known)
        if unknown:
            label, line = unknown
            raise InputError(
                f"{example.file}, line {line}: the label {label!r} never occurs in the training "
                f"data, so no model can learn it; add examples of it there, or remove it here "
                f"(known: {', '.join(labels)})"
            )
