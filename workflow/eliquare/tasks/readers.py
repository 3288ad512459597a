"""Read a task's files, whatever its kind."""

from collections.abc import Sequence
from pathlib import Path

from eliquare.stage import InputError
from eliquare.tasks import conllu, iob, table
from eliquare.tasks.examples import Sentence, Text

KINDS = ("upos", "ner", "classification", "pair")
WORD_KINDS = ("upos", "ner")


def read(
    kind: str,
    paths: Sequence[str | Path],
    text_column: str = "text",
    label_column: str = "label",
    second_column: str | None = None,
) -> list[Sentence] | list[Text]:
    """All examples of the files, in their order.

    Raises InputError, with file and line, for whatever cannot be read, and for a file that holds
    no example. The columns are used for classification (text, label) and pair (second as well).
    """
    if kind == "pair" and not second_column:
        raise InputError("--kind pair needs --second-column, the name of the second text's column")
    examples = []
    for path in paths:
        before = len(examples)
        if kind == "upos":
            examples += conllu.read(path)
        elif kind == "ner":
            examples += iob.read(path)
        else:
            examples += table.read(
                path, text_column, label_column, second_column if kind == "pair" else None
            )
        if len(examples) == before:
            raise InputError(f"{path}: holds no example; expected a file for --kind {kind}")
    return examples
