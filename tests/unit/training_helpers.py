"""A small world for tests of training: real text, its sequences and masks, tiny models."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import torch
import tqdm
import transformers
from corpus_helpers import articles, write_documents

from eliquare import masking, stage
from eliquare.corpus import counts, sequences
from eliquare.distillation import training
from eliquare.models import mlm, student, tokenizer
from eliquare.models.loading import load_tokenizer

# Progress bars share one lock of processes: one that is killed with it would stop all others.
tqdm.tqdm.set_lock(threading.RLock())

KINDS = {"bert": "wordpiece", "distilbert": "wordpiece", "xlm-roberta": "unigram"}
SHAPE = {"layers": 3, "hidden-size": 32, "intermediate-size": 48, "heads": 4, "max-positions": 64}


def options(values: dict) -> list[str]:
    """Command-line options from a mapping; a list repeats its option."""
    words = []
    for name, value in values.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name}", str(one)]
    return words


def stage_run(module, **values) -> Path:
    """Run a stage in this process; underscores stand for hyphens. Returns its output."""
    named = {name.replace("_", "-"): value for name, value in values.items()}
    module.run(module.parser().parse_args(options(named)))
    return Path(values["output"])


def quiet() -> None:
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)


def corpus(folder: Path, kind: str = "wordpiece", characters: int = 60_000) -> SimpleNamespace:
    """Documents of a real dump, and all that a training reads, in ``folder``."""
    quiet()
    texts = [part for text in articles("uk", characters) for part in text.split("\n\n") if part]
    documents = write_documents(folder / "documents", texts)
    (documents / "report.json").write_text(json.dumps({"documents": len(texts), "warnings": []}))
    world = SimpleNamespace(folder=folder, texts=texts, documents=documents)
    world.tokenizer = stage_run(
        tokenizer,
        documents=documents,
        kind=kind,
        vocabulary_size=900,
        output=folder / "tokenizer",
    )
    world.sequences = stage_run(
        sequences,
        documents=documents,
        tokenizer=world.tokenizer,
        max_length=48,
        threads=1,
        output=folder / "sequences",
    )
    world.counts = stage_run(
        counts, sequences=world.sequences, tokenizer=world.tokenizer, output=folder / "counts"
    )
    world.masking = stage_run(
        masking,
        sequences=world.sequences,
        counts=world.counts,
        tokenizer=world.tokenizer,
        max_validation=24,
        output=folder / "masking",
    )
    return world


def write_model(tokenizer_folder: Path, output: Path, kind: str = "bert", seed=1, **shape) -> Path:
    """A model of random weights with its tokenizer, as a folder."""
    shape = SHAPE | {name.replace("_", "-"): value for name, value in shape.items()}
    arguments = mlm.parser().parse_args(
        options({"tokenizer": tokenizer_folder, "kind": kind, **shape})
        + options({"sequences": "-", "masking": "-", "output": "-"})
    )
    words = load_tokenizer(tokenizer_folder)
    transformers.set_seed(seed)
    model = mlm.new_model(arguments, words)
    with torch.no_grad():
        # Wider than the 0.02 of a new model, so that outputs differ from position to position.
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(output)
    words.save_pretrained(output)
    return Path(output)


def write_student(teacher: Path, output: Path, layers: int = 2, **shape) -> Path:
    return stage_run(student, teacher=teacher, layers=layers, output=output, **shape)


# Trainings of these models

STEPS, EVERY = 24, 4
BUDGET = {
    "steps": STEPS,
    "validations": STEPS // EVERY,
    "batch-size": 4,
    "learning-rate": 3e-3,
    "threads": 1,
}


def with_models(made: SimpleNamespace) -> SimpleNamespace:
    """A corpus with a teacher and a student, both with dropout, and the whole training of one."""
    made.teacher = write_model(made.tokenizer, made.folder / "teacher")
    made.student = write_student(made.teacher, made.folder / "student")
    made.distillation = {
        "teacher": made.teacher,
        "student": made.student,
        "sequences": made.sequences,
        "masking": made.masking,
    }
    made.pretraining = {
        "tokenizer": made.tokenizer,
        "sequences": made.sequences,
        "masking": made.masking,
        "layers": 1,
        "hidden-size": 32,
        "intermediate-size": 48,
        "heads": 2,
        "max-positions": 48,
    }
    made.whole = distil(made, made.folder / "whole")
    return made


def arguments_of(world, output, module=training, **changes) -> dict:
    """The options of a training, with changes."""
    inputs = world.distillation if module is training else world.pretraining
    changed = {name.replace("_", "-"): value for name, value in changes.items()}
    return inputs | BUDGET | changed | {"output": output}


def distil(world, output, module=training, **changes) -> Path:
    """Train in this process and return the output folder."""
    values = arguments_of(world, output, module, **changes)
    module.run(module.parser().parse_args(options(values)))
    return Path(output)


def in_a_process(world, output, environment=None, **changes) -> multiprocessing.Process:
    """The stage as a process of its own, with its exit code, without importing torch again."""
    values = arguments_of(world, output, **changes)

    def target():
        os.environ.update(environment or {})
        sys.argv = ["training", *options(values)]
        stage.main(training.parser(), training.run)

    process = multiprocessing.get_context("fork").Process(target=target, daemon=True)
    process.start()
    return process


def in_processes(world, output, number: int, **changes) -> list[int]:
    """As torchrun starts it: so many processes that train together; returns their exit codes."""
    port = str(20_000 + os.getpid() % 20_000)
    common = {"WORLD_SIZE": str(number), "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    processes = [
        in_a_process(
            world, output, common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, **changes
        )
        for rank in range(number)
    ]
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def state_folder(output: Path) -> Path:
    return output.with_name(f"{output.name}-checkpoints")


def wait_for(condition, process, seconds: int = 60) -> bool:
    """Until the condition holds (True) or the process has ended (False)."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        if process.exitcode is not None:
            return False
        time.sleep(0.001)
    return True


def stop_at_first_checkpoint(world, output: Path) -> Path:
    """Kill a training as soon as its first checkpoint is whole; return the folder of its state."""
    process = in_a_process(world, output)
    folder = state_folder(output)
    assert wait_for(lambda: list(folder.glob("checkpoint-*/state.json")), process)
    os.kill(process.pid, signal.SIGKILL)
    process.join(120)
    return folder


def weights_of(folder) -> bytes:
    return (Path(folder) / "model.safetensors").read_bytes()


def history_of(folder) -> list[dict]:
    return [json.loads(line) for line in (Path(folder) / "history.jsonl").read_text().splitlines()]
