"""The command line: ``eliquare <room> <stage> --option value``.

A stage is a function that takes one typed ``Options`` model and writes one output. Its options are
made from the fields of the model, so names, types, bounds and help stand in one place. ``STAGES``
is the table of all stages; it is read without importing any of them (or torch).

``eliquare new <language>`` prints a configuration and is no stage: nothing is made of it.

Exit codes: 0 done; 1 failed through no mistake of the user; 2 input or settings that cannot be
used; 75 interrupted with the state saved; 128 and the number of a signal that ended it (130 for
Ctrl-C). Any other exception is a bug and shows its traceback; ``--debug`` shows that of any error.
"""

import argparse
import atexit
import contextlib
import gc
import io
import json
import logging
import os
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, ClassVar, NamedTuple, NoReturn

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from eliquare import __version__
from eliquare.config.base import Settings
from eliquare.config.errors import explain
from eliquare.faults import plain, without_passwords
from eliquare.interrupts import in_one_line
from eliquare.io import Failure, InputError, Interrupted
from eliquare.outputs import claimed, inputs_of, outputs_of

EXIT_FAILED, EXIT_INPUT, EXIT_INTERRUPTED = 1, 2, 75
DEBUG = "--debug"
# How a stage ends without a result: the word before the message, and the exit code.
ENDS: dict[type[Exception], tuple[str, int]] = {
    Failure: ("failed", EXIT_FAILED),
    InputError: ("error", EXIT_INPUT),
    Interrupted: ("interrupted", EXIT_INTERRUPTED),
}


class Options(Settings):
    """Options of a stage; each field is one ``--option``."""

    # The options that are outputs.
    outputs: ClassVar[tuple[str, ...]] = ("output",)


class Stage(NamedTuple):
    """Where a stage is defined, and the version of its results.

    Raise ``version`` when the stage makes other results from the same input: its rule passes it as
    a parameter, so that results of users are made again only then.
    """

    function: str
    version: int
    summary: str


# Room -> stage -> where it is defined in the package. The rules read the versions from here.
STAGES: dict[str, dict[str, Stage]] = {
    "corpus": {
        "dump": Stage("corpus.dump:download", 1, "download a Wikipedia dump"),
        "documents": Stage("corpus.wikipedia:extract", 4, "read the documents of a dump"),
        "text": Stage("corpus.sources:read_text", 3, "read documents from text files"),
        "dataset": Stage("corpus.sources:read_dataset", 2, "read documents from a dataset"),
        "mixture": Stage("corpus.sources:mix", 1, "put several corpora into one"),
        "tokenize": Stage("corpus.sequences:tokenize", 4, "make sequences of documents, and count"),
        "mask": Stage("corpus.masking:mask", 2, "masking weights, fixed validation masks"),
        "sample": Stage("corpus.held_out:sample", 4, "sample the validation documents"),
    },
    "vocabulary": {
        "select": Stage("vocabulary.select:select", 3, "select the tokens that stay"),
        "reduce": Stage("vocabulary.reduce:reduce", 3, "reduce a model and its tokenizer"),
        "verify": Stage("vocabulary.verify:verify", 3, "compare a model with its reduction"),
        "report": Stage("vocabulary.report:report", 6, "report what a reduction changed"),
    },
    "models": {
        "fetch": Stage("models.hub:fetch", 2, "fetch a model from a hub or a folder"),
        "tokenizer": Stage("models.tokenizer:train_tokenizer", 2, "train a tokenizer"),
        "pretrain": Stage("models.pretrain:pretrain", 4, "pre-train or adapt a teacher"),
    },
    "distillation": {
        "distill": Stage("distillation.train:distill", 8, "distil teachers into a student"),
    },
    "extension": {
        "extend": Stage("extension.extend:extend", 3, "add tokens for a language"),
        "tokenize": Stage("extension.alignment:tokenize", 2, "tokenize text twice"),
        "mask": Stage("extension.alignment:mask", 1, "masks for two tokenizers"),
        "report": Stage("extension.report:report", 3, "report what an extension changed"),
        "distill": Stage("extension.distill:distill", 4, "distil across two tokenizers"),
    },
    "evaluation": {
        "fetch": Stage("evaluation.fetch:fetch", 3, "fetch and convert the data of a task"),
        "finetune": Stage("evaluation.finetune:finetune", 10, "fine-tune and score"),
        "benchmark": Stage("evaluation.benchmark:benchmark", 3, "measure size and speed"),
        "intrinsic": Stage("evaluation.intrinsic:evaluate", 9, "score without labels"),
    },
    "export": {
        "onnx": Stage("export.onnx:export", 4, "a model for ONNX Runtime, int8 or float32"),
        "static": Stage("export.static:export", 3, "static embeddings, a vector per token"),
        "student": Stage("export.student:export", 6, "all that a recipe's `export` asks for"),
        "recipe": Stage("export.recipe:write", 2, "how to rebuild a reduced model"),
        "rebuild": Stage("export.recipe:rebuild", 1, "a reduced model from its recipe"),
        "push": Stage("export.hub:push", 1, "put a released model on the hub"),
    },
    "reporting": {
        "tables": Stage("reporting.tables:write_tables", 14, "tables of an experiment"),
        "figures": Stage("reporting.figures:write_figures", 7, "figures of an experiment"),
        "release": Stage("reporting.card:release", 9, "a student with its model card"),
        "report": Stage("reporting.report:write_report", 16, "the HTML report"),
        "summary": Stage("reporting.report:print_summary", 1, "print the main table"),
    },
}


def version(room: str, stage: str) -> int:
    """Return the version of a stage's results."""
    return STAGES[room][stage].version


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one stage and exit with its code."""
    if (
        argv is None
        and os.environ.get("PYTHONUTF8") != "1"
        and sys.getfilesystemencoding() != "utf-8"
    ):
        # In the locale of some jobs the libraries do not find a file whose name is not ASCII.
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        # Names of languages are not ASCII, whatever the locale of a job.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.captureWarnings(True)
    argv = list(sys.argv[1:] if argv is None else argv)
    with boundary(debug=DEBUG in argv):
        argv = [word for word in argv if word != DEBUG]
        require_text(argv)
        if argv[:1] == ["new"]:
            print(new_configuration(argv[1:]), end="")
            sys.exit(0)
        room, stage = chosen(argv)
        function = load(STAGES[room][stage])
        options = parse(function, f"eliquare {room} {stage}", argv[2:])
        names = options.outputs
        with claimed(f"{room} {stage}", outputs_of(options, names), inputs_of(options, names)):
            function(options)
    sys.exit(0)


@contextlib.contextmanager
def boundary(debug: bool = False) -> Iterator[None]:
    """Turn every known error into one plain line each and the exit code of its kind."""
    try:
        with in_one_line():
            yield
    except BaseException as error:
        found = plain(error)
        if found is None or isinstance(error, SystemExit):
            raise
        if debug:
            traceback.print_exc()
        word, code = next(end for kind, end in ENDS.items() if isinstance(found, kind))
        for line in without_passwords(str(found)).splitlines():
            print(f"{word}: {line}", file=sys.stderr)
        sys.exit(code)


def require_text(argv: Sequence[str]) -> None:
    """Raise InputError for a word, as the name of a file, that is no UTF-8 or holds a zero."""
    for word in argv:
        if "\0" in word:
            raise InputError(f"{word!r}: has a zero byte, which no name of a file can have")
        try:
            word.encode()
        except UnicodeEncodeError:
            raise InputError(f"{word}: not UTF-8; rename the file or the folder") from None


def chosen(argv: Sequence[str]) -> tuple[str, str]:
    """Return room and stage named by the arguments; print help or an error where there are none."""
    parser = argparse.ArgumentParser(
        prog="eliquare",
        description="Small, fast language models for one language out of large multilingual ones.",
        epilog="`eliquare <room> <stage> --help` lists the options of a stage; with --debug, any "
        "command shows the traceback of its error.",
    )
    parser.add_argument("--version", action="version", version=f"eliquare {__version__}")
    rooms = parser.add_subparsers(dest="room", metavar="<room>", required=True)
    rooms.add_parser("new", help="print the configuration of a language, to change it")
    for room, stages in STAGES.items():
        words = ", ".join(stages)
        of_room = rooms.add_parser(room, help=words, description=f"Stages of {room}.")
        names = of_room.add_subparsers(dest="stage", metavar="<stage>", required=True)
        for stage, where in stages.items():
            names.add_parser(stage, help=where.summary, add_help=False)
    arguments, _ = parser.parse_known_args(argv[:2])
    return arguments.room, arguments.stage


def new_configuration(argv: Sequence[str]) -> str:
    """Return the configuration of the language that the arguments of ``eliquare new`` name."""
    from eliquare.config import new

    parser = argparse.ArgumentParser(
        prog="eliquare new", description="Print the configuration of a language, to change it."
    )
    parser.add_argument("language", help="Code of its Wikipedia, as cy in https://cy.wikipedia.org")
    parser.add_argument("--teacher", help="A hub id with its commit (id@commit), or a folder.")
    parser.add_argument("--date", default="latest", help="Date of the dump. Default: latest")
    options = parser.parse_args(argv)
    return new.text(options.language, options.teacher, options.date)


def load(stage: Stage) -> Callable[[Any], None]:
    """Import a stage's function, named as ``module:function`` in the package."""
    module, _, name = stage.function.partition(":")
    # An import of torch makes a million objects that stay. To look for garbage among them, while
    # they are made and again at the exit, takes a third of a short stage.
    gc.disable()
    try:
        function: Callable[[Any], None] = getattr(import_module(f"eliquare.{module}"), name)
    finally:
        gc.enable()
        gc.freeze()
        atexit.register(gc.freeze)
    return function


def parse(function: Callable[[Any], None], command: str, argv: Sequence[str]) -> Options:
    """Read a stage's options; raise InputError with one line for each that cannot be used."""
    hints = typing.get_type_hints(function)
    model: type[Options] = next(hints[name] for name in hints if name != "return")
    parser = argparse.ArgumentParser(
        prog=command, description=(function.__doc__ or "").strip().splitlines()[0]
    )
    for name, field in model.model_fields.items():
        add_option(parser, name, field)
    try:
        return model.model_validate(vars(parser.parse_args(argv)))
    except ValidationError as error:
        raise InputError("\n".join(explain(error, option_name))) from None


def option_name(field: str) -> str:
    """Return the option of a field: ``max_length`` is ``--max-length``."""
    return f"--{field.replace('_', '-')}"


def add_option(parser: argparse.ArgumentParser, name: str, field: FieldInfo) -> None:
    """Add the option of one field; values are left as text for the model to convert and check."""
    description = (field.description or "").replace("%", "%%")
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    if default not in (None, "", [], {}) and not isinstance(default, BaseModel):
        description = f"{description} Default: {default}".strip()
    types = parts(field.annotation)
    origins: set[Any] = set(map(typing.get_origin, types))
    # Mappings, and lists of them, are written as JSON.
    as_json = dict in origins or any(
        isinstance(t, type) and issubclass(t, BaseModel) for t in types
    )
    keywords: dict[str, Any] = {"metavar": "VALUE", "type": from_json if as_json else str}
    if bool in types:
        keywords = {"action": argparse.BooleanOptionalAction}
    elif {list, tuple} & origins:
        keywords |= {"nargs": "+", "action": "extend"}
    keywords |= {"dest": name, "default": argparse.SUPPRESS, "required": field.is_required()}
    parser.add_argument(option_name(name), help=description, **keywords)


def parts(annotation: Any) -> list[Any]:
    """Return a type and all types in it."""
    return [annotation, *(part for inner in typing.get_args(annotation) for part in parts(inner))]


def from_json(text: str) -> Any:
    """Return the value that JSON text stands for, or the text where it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
