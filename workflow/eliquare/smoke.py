"""Try a recipe on one core: a few steps with its real settings on a sliver of its text.

    python -m eliquare.smoke --documents D --teacher T --student-options "--layers 6 …" … --output O

Everything from the text to the distilled student is made once, in a temporary folder, by the same
stages with the same options; only the number of documents, steps, sequences a step and new
sub-words is cut. So a setting that some stage refuses, or that loses the gradient at once, is told
in a minute. Without options of a distillation, only the teacher is tried. What a GPU alone shows
(its memory, bf16 where the processor has none) is not tried, and of several teachers the first
alone.
"""

import argparse
import os
import resource
import shlex
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from types import ModuleType

from eliquare import masking, stage
from eliquare.corpus import counts, documents, paired, sequences

VERSION = 1

DOCUMENTS = 200
STEPS = 3
# Sequences of a step: enough for padding and order to matter, few enough for one core.
BATCH = 2
CUT = {
    "steps": STEPS,
    "epochs": None,
    "batch_size": BATCH,
    "accumulation": 1,
    "validations": 1,
    "logs": STEPS,
    # The sliver is small already.
    "fraction": 1.0,
    "threads": 1,
}
# New sub-words that a sliver has for sure.
FEW_NEW = {"add": 5, "gain": None, "least": 2}


class Recipe:
    """The stages of one recipe, each run in this process, below one folder."""

    def __init__(self, folder: Path, documents_folder: Path):
        self.folder = folder
        self.documents = documents_folder

    def make(self, what: str, module: ModuleType, options: str, /, cut: dict, **paths) -> Path:
        """Run a stage with options as its rule gives them; returns its output.

        Raises InputError and Failure with the name of what was being made.
        """
        words = shlex.split(options)
        output = self.folder / what.replace(" ", "-")
        for name, path in (paths | {"output": output}).items():
            words += [f"--{name.replace('_', '-')}", str(path)]
        arguments = module.parser().parse_args(words)
        for name, value in cut.items():
            setattr(arguments, name, value)
        stage.say(f"{what} …")
        try:
            module.run(arguments)
        except (stage.InputError, stage.Failure) as error:
            raise type(error)(f"{what}: {error}") from error
        return output

    def prepare(
        self, name: str, tokenizer: Path, arguments: argparse.Namespace, module=sequences, **paths
    ) -> dict[str, Path]:
        """Sequences, counts and masking of the sliver with one tokenizer; the sequences by
        ``module``, which reads ``paths`` too."""
        made = {
            "sequences": self.make(
                f"sequences {name}",
                module,
                arguments.sequences_options,
                cut={"threads": 1},
                documents=self.documents,
                tokenizer=tokenizer,
                **paths,
            )
        }
        made["counts"] = self.make(
            f"counts {name}", counts, "", cut={}, **made, tokenizer=tokenizer
        )
        made["masking"] = self.make(
            f"masking {name}",
            masking,
            arguments.masking_options,
            cut={"max_validation": 2 * BATCH},
            **made,
            tokenizer=tokenizer,
        )
        return made


def sliver(source: Path, folder: Path) -> Path:
    """The first documents of a documents folder, as a folder of their own."""
    few = Path(folder) / "documents"
    with closing(documents.read(source)) as rows:
        documents.write(
            few,
            islice(rows, DOCUMENTS),
            documents.Report(str(source)),
            documents.Filter(min_characters=1, lists=False, near_duplicates=False),
        )
    return few


def teacher_of(
    recipe: Recipe, arguments: argparse.Namespace, whole: Callable[[Path], dict[str, Path]]
) -> Path:
    """The teacher: as it is, or trained a few steps from nothing, or conditioned a few steps."""
    from eliquare.models import mlm

    teacher = arguments.teacher
    if teacher is None:
        data = whole(arguments.tokenizer)
        teacher = recipe.make(
            "teacher",
            mlm,
            arguments.pretraining_options,
            cut=CUT,
            tokenizer=arguments.tokenizer,
            sequences=data["sequences"],
            masking=data["masking"],
        )
    for number, options in enumerate(arguments.conditioning_options, start=1):
        data = whole(arguments.tokenizer or arguments.teacher)
        teacher = recipe.make(
            f"conditioned teacher {number}",
            mlm,
            options,
            cut=CUT,
            model=teacher,
            sequences=data["sequences"],
            masking=data["masking"],
        )
    return teacher


def try_recipe(folder: Path, arguments: argparse.Namespace) -> list[dict]:
    """Make everything once; the history of the last training."""
    from eliquare.distillation import paired as two_tokenizers
    from eliquare.distillation import training
    from eliquare.models import student
    from eliquare.reporting.results import read_lines
    from eliquare.vocabulary import amplify, reduce, select

    recipe = Recipe(folder, sliver(arguments.documents, folder))
    prepared: dict[str, dict[str, Path]] = {}

    def whole(tokenizer: Path) -> dict[str, Path]:
        if "whole" not in prepared:
            prepared["whole"] = recipe.prepare("whole", tokenizer, arguments)
        return prepared["whole"]

    teacher = teacher_of(recipe, arguments, whole)
    if not arguments.distillation_options:
        return list(read_lines(teacher / "history.jsonl"))
    data = whole(arguments.tokenizer or arguments.teacher)
    if arguments.vocabulary_options:
        kept = recipe.make(
            "kept sub-words",
            select,
            arguments.vocabulary_options,
            cut={},
            model=teacher,
            counts=data["counts"],
            characters=recipe.documents / "characters.json",
        )
        teacher = recipe.make(
            "reduced teacher",
            reduce,
            "",
            cut={},
            model=teacher,
            keep=kept,
            sample=recipe.documents,
        )
        data = recipe.prepare("cut", teacher, arguments)
    source, distillation = teacher, training
    if arguments.amplification_options:
        distillation = two_tokenizers
        source = recipe.make(
            "amplified teacher",
            amplify,
            arguments.amplification_options,
            cut=FEW_NEW,
            model=teacher,
            documents=recipe.documents,
        )
        data = recipe.prepare(
            "amplified", source, arguments, module=paired, teacher_tokenizer=teacher
        )
    start = recipe.make("student", student, arguments.student_options, cut={}, teacher=source)
    distilled = recipe.make(
        "distillation",
        distillation,
        arguments.distillation_options,
        cut=CUT,
        teacher=teacher,
        student=start,
        sequences=data["sequences"],
        masking=data["masking"],
    )
    return list(read_lines(distilled / "history.jsonl"))


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", required=True, type=Path, help="documents folder")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--teacher", type=Path, help="model folder of the teacher as it is fetched")
    start.add_argument("--tokenizer", type=Path, help="tokenizer of a teacher trained from nothing")
    for name, stage_of in (
        ("sequences", "eliquare.corpus.sequences"),
        ("masking", "eliquare.masking"),
        ("pretraining", "eliquare.models.mlm, with --tokenizer"),
        ("vocabulary", "eliquare.vocabulary.select; none leaves the vocabulary whole"),
        ("amplification", "eliquare.vocabulary.amplify; none adds no sub-words"),
        ("student", "eliquare.models.student"),
        ("distillation", "eliquare.distillation.training; none tries the teacher alone"),
    ):
        parser.add_argument(f"--{name}-options", default="", help=f"options of {stage_of}")
    parser.add_argument(
        "--conditioning-options",
        action="append",
        default=[],
        help="options of eliquare.models.mlm, once for each conditioning, in their order",
    )
    parser.add_argument("--output", required=True, type=Path, help="JSON file to write")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Try the recipe; raises InputError or Failure where a stage does."""
    # On one core, whatever the machine has; before torch looks for a GPU.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="eliquare-smoke-") as folder:
        history = try_recipe(Path(folder), arguments)
    seconds = time.monotonic() - begin
    losses = [line["loss"] for line in history if "loss" in line]
    shown = ", ".join(f"{loss:.4g}" for loss in losses)
    stage.say(f"the recipe works: {len(losses)} steps in {seconds:.0f} s, losses {shown}")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with stage.whole_file(arguments.output) as beside:
        stage.write_json(
            beside,
            {
                "losses": losses,
                "seconds": round(seconds, 1),
                "peak_memory_mb": round(
                    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000  # KB on Linux
                ),
            },
        )


if __name__ == "__main__":
    stage.main(parser(), run)
