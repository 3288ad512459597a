"""A small world for tests of training: sequences and masks of generated text, tiny models."""

import json
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import tqdm
import transformers

import worlds
from eliquare import cli
from eliquare.config.model import Shape
from eliquare.corpus import masking, sequences
from eliquare.distillation.train import DistillOptions, distill
from eliquare.io import read_json_lines
from eliquare.models.loading import load_config, load_tokenizer, quiet
from eliquare.models.pretrain import PretrainOptions, new_model, pretrain
from eliquare.training import checkpoint

# Progress bars share one lock of processes: one that is killed with it would stop all others.
tqdm.tqdm.set_lock(threading.RLock())

STEPS, EVERY = 12, 4
BUDGET: dict[str, Any] = {
    "max_steps": STEPS,
    "num_evals": STEPS // EVERY,
    "per_device_train_batch_size": 4,
    "learning_rate": 3e-3,
    "threads": 1,
}
SHAPE: dict[str, Any] = {
    "num_hidden_layers": 3,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


@dataclass(frozen=True)
class World:
    """The inputs of a training: a tokenizer, sequences and masks, a teacher, a student."""

    folder: Path
    tokenizer: Path
    sequences: Path
    masking: Path
    teacher: Path
    student: Path

    def options(self, output: Path, **changes: Any) -> DistillOptions:
        """Return the options of a distillation; ``student`` is a model that starts as it is."""
        start = changes.pop("student", self.student)
        layers = load_config(start).num_hidden_layers
        shape = {"start_from": start, "num_hidden_layers": layers, "initialization": "first"}
        data = {"sequences": self.sequences, "masking": self.masking}
        models = {"teachers": [self.teacher], **shape}
        return DistillOptions.model_validate(
            {**models, **data, **BUDGET, "output": output, **changes}
        )

    def distill(self, output: Path, **changes: Any) -> Path:
        """Distil in this process; return the output folder."""
        distill(self.options(output, **changes))
        return output

    def pretrain(self, output: Path, **changes: Any) -> Path:
        """Pre-train in this process; return the output folder."""
        data = {"sequences": self.sequences, "masking": self.masking, "output": output}
        start = {} if "model" in changes else {"tokenizer": self.tokenizer, **SHAPE}
        pretrain(PretrainOptions.model_validate({**start, **data, **BUDGET, **changes}))
        return output


def make_world(folder: Path) -> World:
    """Make everything that a training reads."""
    quiet()
    torch.set_num_threads(1)
    texts = worlds.texts()
    documents = worlds.write_documents(folder / "documents", texts)
    tokenizer = worlds.write_tokenizer("wordpiece", folder / "tokenizer", texts)
    tokenize_and_mask(folder, documents, tokenizer)
    teacher = write_model(tokenizer, folder / "teacher")
    student = write_model(tokenizer, folder / "student", seed=2, num_hidden_layers=2)
    return World(folder, tokenizer, folder / "sequences", folder / "masking", teacher, student)


def tokenize_and_mask(folder: Path, documents: Path, tokenizer: Path) -> None:
    """Write what a training reads of documents, into a folder."""
    sequences.tokenize(
        sequences.TokenizeOptions(
            documents=documents,
            tokenizer=tokenizer,
            language="qaa",
            max_length=48,
            threads=1,
            output=folder / "sequences",
            counts=folder / "counts",
        )
    )
    masking.mask(
        masking.MaskOptions(
            sequences=folder / "sequences",
            counts=folder / "counts",
            tokenizer=tokenizer,
            max_validation_sequences=24,
            output=folder / "masking",
        )
    )


def write_model(tokenizer: Path, output: Path, seed: int = 1, **shape: Any) -> Path:
    """Write a model of random weights with its tokenizer."""
    tokens = load_tokenizer(tokenizer)
    transformers.set_seed(seed)
    model = new_model(Shape.model_validate({**SHAPE, **shape}), tokens)
    with torch.no_grad():
        # Wider than the 0.02 of a new model, so that outputs differ from position to position.
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(output)
    tokens.save_pretrained(output)
    return output


def words(options: DistillOptions) -> list[str]:
    """Return the options as the words of a command."""
    found = []
    for name in options.model_fields_set:
        value = getattr(options, name)
        values = value if isinstance(value, list) else [value]
        texts = [v.model_dump_json() if hasattr(v, "model_dump_json") else str(v) for v in values]
        found += [cli.option_name(name), *texts]
    return found


def in_a_process(options: DistillOptions, environment: dict[str, str] | None = None) -> BaseProcess:
    """Run the command in a process of its own, without importing torch again."""

    def target() -> None:
        os.environ.update(environment or {})
        # Pytest's handlers would keep what the command says from its standard error.
        logging.getLogger().handlers.clear()
        cli.main(["distillation", "distill", *words(options)])

    process = multiprocessing.get_context("fork").Process(target=target, daemon=True)
    process.start()
    return process


def in_processes(options: DistillOptions, number: int) -> list[int | None]:
    """Run so many processes that train together, as torchrun does; return their exit codes."""
    port = str(20_000 + os.getpid() % 20_000)
    together = {"WORLD_SIZE": str(number), "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    processes = [
        in_a_process(options, together | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(number)
    ]
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def wait_for(condition: Callable[[], object], process: BaseProcess, seconds: int = 60) -> bool:
    """Wait until the condition holds (True) or the process has ended (False)."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        if process.exitcode is not None:
            return False
        time.sleep(0.001)
    return True


def weights_of(folder: Path) -> bytes:
    """Return the bytes of a model's weights."""
    return (folder / "model.safetensors").read_bytes()


def history_of(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a training's history."""
    return read_json_lines(folder / "history.jsonl")


def untimed(folder: Path) -> list[list[tuple[str, Any]]]:
    """Return a history, its keys in their order, without what a clock says."""
    timed = ("seconds", "tokens_per_second")
    return [
        [(name, value) for name, value in line.items() if name not in timed]
        for line in history_of(folder)
    ]


def provenance_of(folder: Path) -> dict[str, Any]:
    """Return the provenance of a model."""
    provenance: dict[str, Any] = json.loads((folder / "provenance.json").read_text())
    return provenance


def state_of(output: Path) -> Path:
    """Return the folder of a training's checkpoints."""
    return checkpoint.folder_of(output)


def last_step(output: Path) -> int:
    """Return the step of the last complete checkpoint, 0 for none."""
    complete = [path.parent for path in state_of(output).glob("checkpoint-*/manifest.json")]
    return max(map(checkpoint.step_of, complete), default=0)
