"""Four students on one pass of their teacher, beside four runs of one student each.

    python tests/benchmarks/together.py [--repeats 3] [--steps 6] [--threads 2]
    python tests/benchmarks/together.py --width 192 --subwords 5000 --steps 25

Prints JSON. The teacher has mBERT's twelve layers and width and a reduced vocabulary of 20,000
sub-words, the students six layers; the sequences are a real dump's, of 128 sub-words. The students
differ in temperature, in positions and in their start. First every student of the shared run must
equal, byte for byte, the one that was trained alone. Then the seconds of the steps are compared
(not the start of the program, of which four runs have four), on the clock and of the processor,
which other work on the machine disturbs less: both sides in turn, medians of the repeats.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/unit"))

from corpus_helpers import articles, write_documents  # noqa: E402
from training_helpers import options, stage_run, write_model, write_student  # noqa: E402

from eliquare import masking  # noqa: E402
from eliquare.corpus import counts, sequences  # noqa: E402
from eliquare.models import tokenizer  # noqa: E402

LENGTH = 128
OF_A_HEAD = 64
STUDENTS = {
    "one": {},
    "hotter": {"temperature": 4.0},
    "masked": {"positions": "masked"},
    "last-layers": {},
}
STARTS = {"last-layers": {"initialisation": "last"}}
SKIPPED = 2
# The stage, with the processor's time in each line of its history.
CHILD = """
import sys, time
from eliquare import stage
from eliquare.distillation import training
from eliquare.training.history import History
add = History.add
def with_time(self, line, steps):
    add(self, line | {"processor_seconds": time.process_time()}, steps)
History.add = with_time
stage.main(training.parser(), training.run)
"""


def prepare(folder: Path, width: int, subwords: int) -> dict[str, Path]:
    """A teacher, students at their start, and the data, as the workflow's stages make them."""
    made = {name: folder / name for name in ("documents", "words", "sequences", "counts")}
    texts = [part for text in articles("uk", 2_000_000) for part in text.split("\n\n") if part]
    write_documents(made["documents"], texts)
    report = {"documents": len(texts), "warnings": []}
    (made["documents"] / "report.json").write_text(json.dumps(report))
    stage_run(
        tokenizer,
        documents=made["documents"],
        kind="wordpiece",
        vocabulary_size=subwords,
        output=made["words"],
    )
    read = {"tokenizer": made["words"]}
    stage_run(
        sequences,
        documents=made["documents"],
        max_length=LENGTH,
        output=made["sequences"],
        **read,
    )
    stage_run(counts, sequences=made["sequences"], output=made["counts"], **read)
    stage_run(
        masking,
        sequences=made["sequences"],
        counts=made["counts"],
        max_validation=16,
        output=folder / "masking",
        **read,
    )
    teacher = write_model(
        made["words"],
        folder / "teacher",
        layers=12,
        hidden_size=width,
        intermediate_size=4 * width,
        heads=width // OF_A_HEAD,
        max_positions=LENGTH,
    )
    for name in STUDENTS:
        write_student(teacher, folder / f"start-{name}", layers=6, **STARTS.get(name, {}))
    return made | {"teacher": teacher, "masking": folder / "masking"}


def own_options(folder: Path, name: str, output: Path, arguments: argparse.Namespace) -> list[str]:
    """The options of one student, but for what it shares with the others."""
    return options(
        {"student": folder / f"start-{name}", "output": output}
        | STUDENTS[name]
        | {"steps": arguments.steps, "batch-size": 8, "validations": 1}
    )


def run(made: dict[str, Path], words: list[str], threads: int) -> None:
    """One command of the distillation."""
    shared = options({name: made[name] for name in ("teacher", "sequences", "masking")})
    command = [sys.executable, "-c", CHILD, *shared, *words]
    subprocess.run(
        [*command, "--threads", str(threads)],
        check=True,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""},
    )


def seconds_of(output: Path) -> dict[str, float]:
    """The seconds of the steps, but for the first few: on the clock, and of the processor."""
    history = (output / "history.jsonl").read_text().splitlines()
    lines = {line["step"]: line for line in map(json.loads, history) if "seconds" in line}
    first, last = lines[SKIPPED], lines[max(lines)]
    return {name: last[name] - first[name] for name in ("seconds", "processor_seconds")}


def alone(folder: Path, made: dict, to: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Each student by a command of its own; the seconds of all."""
    for name in STUDENTS:
        run(made, own_options(folder, name, to / name, arguments), arguments.threads)
    each = [seconds_of(to / name) for name in STUDENTS]
    return {name: sum(seconds[name] for seconds in each) for name in each[0]}


def together(folder: Path, made: dict, to: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """The first student with the others beside it; the seconds of all."""
    first, *others = (own_options(folder, name, to / name, arguments) for name in STUDENTS)
    beside = [word for words in others for word in ("--beside", shlex.join(words))]
    run(made, [*first, *beside], arguments.threads)
    return seconds_of(to / next(iter(STUDENTS)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="medians of so many")
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps of each student")
    parser.add_argument(
        "--width", type=int, default=768, help="hidden size of teacher and students"
    )
    parser.add_argument("--subwords", type=int, default=20_000, help="of the vocabulary, at most")
    parser.add_argument("--threads", type=int, default=2, help="of the processor")
    arguments = parser.parse_args()
    runs = {"alone": [], "together": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = prepare(folder, arguments.width, arguments.subwords)
        for repeat in range(arguments.repeats):
            by_itself, shared = folder / f"alone-{repeat}", folder / f"together-{repeat}"
            runs["alone"].append(alone(folder, made, by_itself, arguments))
            runs["together"].append(together(folder, made, shared, arguments))
            for student in STUDENTS if repeat == 0 else ():
                if student != next(iter(STUDENTS)):
                    # Trained already: this writes it.
                    run(made, own_options(folder, student, shared / student, arguments), 1)
                one, other = (
                    (where / student / "model.safetensors").read_bytes()
                    for where in (by_itself, shared)
                )
                if one != other:
                    raise SystemExit(f"{student}: not the same bytes as alone")
            for done in (by_itself, shared):
                shutil.rmtree(done)
        vocabulary = json.loads((made["teacher"] / "config.json").read_text())["vocab_size"]
    result = {
        "students": len(STUDENTS),
        "width": arguments.width,
        "vocabulary": vocabulary,
        "same_bytes_as_alone": True,
    }
    for name in ("seconds", "processor_seconds"):
        values = {side: [round(each[name], 2) for each in runs[side]] for side in runs}
        faster = statistics.median(values["alone"]) / statistics.median(values["together"])
        result[name] = values | {"times_as_fast": round(faster, 2)}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
