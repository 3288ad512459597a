"""Distil a teacher into a student that cuts the text otherwise, as one with new sub-words does.

    python -m eliquare.distillation.paired --teacher T --student S --sequences D --masking M \\
        --steps 20000 --output O

``--sequences`` is a folder of eliquare.corpus.paired, made with these two tokenizers. What is
compared with what stands in paired_objective.py; all else is as in eliquare.distillation.training.
"""

import argparse
from pathlib import Path

from eliquare import stage
from eliquare.corpus.tokenizer import require_same
from eliquare.distillation import training as plain
from eliquare.distillation.paired_objective import PairedDistillation
from eliquare.masking import Masking
from eliquare.models.loading import load_masked_model, load_tokenizer, longest_sequence
from eliquare.pairs import Carrier
from eliquare.training import budget
from eliquare.training import run as training
from eliquare.training.loop import Data
from eliquare.training.paired_order import PairedBatch, PairedMasks, PairedOrder

VERSION = 2


def parser() -> argparse.ArgumentParser:
    """The options of this stage: those of eliquare.distillation.training."""
    parser = plain.parser()
    parser.description = __doc__.splitlines()[0]
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Train the student; raises InputError where sequences, student and teacher do not fit."""
    training.start(arguments)
    asked = plain.terms_of(arguments)
    if arguments.beside:
        raise stage.InputError("--beside: not for a student with another vocabulary")
    if len(arguments.teacher) > 1:
        raise stage.InputError("--teacher: a student with another vocabulary has one teacher")
    (teacher_folder,) = arguments.teacher
    student = load_masked_model(arguments.student)
    teacher = load_masked_model(teacher_folder)
    tokenizer = load_tokenizer(arguments.student)
    teacher_tokenizer = load_tokenizer(teacher_folder)
    sequences = Path(arguments.sequences)
    require_same(sequences, len(tokenizer), Path(arguments.student))
    carrier = Carrier.load(sequences, tokenizer.mask_token_id)
    made_for = stage.read_json(sequences / "report.json")["teacher"]["vocabulary"]
    if made_for != len(teacher_tokenizer):
        raise stage.InputError(
            f"{teacher_folder}: {len(teacher_tokenizer):,} sub-words, but {sequences} was made "
            f"for a teacher of {made_for:,}; make the sequences with this teacher's tokenizer"
        )
    distillation = PairedDistillation(student, teacher, asked, carrier.to_teacher)
    plain.freeze(student, arguments.freeze)

    def read(task: training.Task) -> Data:
        order = PairedOrder(
            training.sequences_in(sequences / "train.arrow"),
            Masking.load(arguments.masking, arguments.student, seed=arguments.seed),
            carrier,
            budget.sequences_a_step(arguments),
            arguments.seed,
            arguments.fraction,
        )
        validation = PairedMasks(
            training.sequences_in(Path(arguments.masking) / "validation.arrow")
        )
        training.check_lengths(student, order, validation)
        longest = stage.read_json(sequences / "report.json")["max_length"]
        if longest > longest_sequence(teacher):
            raise stage.InputError(
                f"{sequences}: sequences of up to {longest} sub-words, and the teacher takes "
                f"{longest_sequence(teacher)}; make them again with a smaller max_length"
            )
        return Data(
            order,
            validation,
            arguments.batch_size,
            arguments.accumulation,
            PairedBatch(tokenizer.pad_token_id, teacher_tokenizer.pad_token_id),
        )

    training.train(plain.task_of(arguments, student, tokenizer, distillation, VERSION, read=read))


if __name__ == "__main__":
    stage.main(parser(), run)
