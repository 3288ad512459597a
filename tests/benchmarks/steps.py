"""What the benchmarks of the distillation step share: models, batches, timing, memory."""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from plain_step import plain_step

from eliquare.distillation.objective import Distillation
from eliquare.distillation.terms import terms

MBERT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
}
FULL_VOCABULARY = 119_547


def model(layers: int, vocabulary: int, device: str, seed: int) -> transformers.PreTrainedModel:
    """A model of mBERT's shape with random weights, its gradients' memory taken already."""
    torch.manual_seed(seed)
    config = transformers.BertConfig(num_hidden_layers=layers, vocab_size=vocabulary, **MBERT)
    made = transformers.BertForMaskedLM(config).to(device)
    return made.eval().requires_grad_(False) if seed == 0 else made.train()


def batch(sequences: int, length: int, vocabulary: int, device: str) -> dict[str, torch.Tensor]:
    """Whole rows of random sub-words, 15% with a label."""
    generator = torch.Generator().manual_seed(2)
    shape = sequences, length
    ids = torch.randint(5, vocabulary, shape, generator=generator)
    masked = torch.rand(shape, generator=generator) < 0.15
    made = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.where(masked, ids, -100),
        "masked": masked.flatten().nonzero().squeeze(-1),
        "unmasked": (~masked).flatten().nonzero().squeeze(-1),
    }
    return {name: tensor.to(device) for name, tensor in made.items()}


Side = tuple[transformers.PreTrainedModel, Callable[[], torch.Tensor]]


Models = tuple[transformers.PreTrainedModel, transformers.PreTrainedModel]


def models(vocabulary: int, device: str) -> Models:
    """Teacher and student: 12 layers and 6."""
    return model(12, vocabulary, device, seed=0), model(6, vocabulary, device, seed=1)


def side(
    name: str, sequences: int, length: int, device: str, both: Models | None = None, **settings
) -> Side:
    """The student and the step, forward and backward, of "plain" or "ours".

    ``both``: the models, where sides share them; ``settings``: ``vocabulary``, ``positions`` and
    ``bf16`` of ours.
    """
    vocabulary = settings.get("vocabulary", FULL_VOCABULARY)
    bf16 = settings.get("bf16", False)
    teacher, student = both or models(vocabulary, device)
    inputs = batch(sequences, length, vocabulary, device)
    if name == "ours":
        asked = terms({"positions": settings.get("positions", "all")})
        objective = Distillation(student, [(teacher, 1.0)], asked)

    def step() -> torch.Tensor:
        torch.manual_seed(3)
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            if name == "ours":
                loss = objective(student, inputs).loss
            else:
                loss, _ = plain_step(student, teacher, inputs)
        loss.backward()
        return loss.detach()

    return student, step


def seconds(student: transformers.PreTrainedModel, step: Callable, device: str) -> float:
    """How long one step takes, without gradients at its start."""
    student.zero_grad()
    synchronize(device)
    begun = time.perf_counter()
    step()
    synchronize(device)
    return time.perf_counter() - begun


def synchronize(device: str) -> None:
    """Wait for what a GPU still has to do."""
    if device == "cuda":
        torch.cuda.synchronize()


def in_turn(sides: dict[str, Side], repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds of each side's steps, one after the other in turn, after one of each unmeasured."""
    taken = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, (student, step) in sides.items():
            needed = seconds(student, step, device)
            if repeat:
                taken[name].append(round(needed, 3))
    return taken


def medians(taken: dict[str, list[float]], tokens: int) -> dict:
    """Tokens a second of each side, and how many times faster ours is."""
    speeds = {name: tokens / statistics.median(values) for name, values in taken.items()}
    return {
        "seconds": taken,
        "tokens_per_second": {name: round(speed, 1) for name, speed in speeds.items()},
        "times_faster": round(speeds["ours"] / speeds["plain"], 2),
    }


def memory_of(script: str, options: list[str]) -> dict[str, float]:
    """GB above the models' own at the peak of each side's step, each in a process of its own."""
    found = {}
    for name in ("plain", "ours"):
        command = [sys.executable, script, "--memory-of", name, *options]
        found[name] = json.loads(subprocess.check_output(command))
    return found


def peak_above_models(made: Side, device: str) -> float:
    """GB above models and gradients at the peak of one step."""
    student, step = made
    for parameter in student.parameters():
        parameter.grad = torch.zeros_like(parameter)
        # Touched, so that its memory is counted as the models' own.
        parameter.grad += 1
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 1e9
    before = resident()
    step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 1e9


def resident() -> int:
    """Bytes of memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def hardware(device: str) -> str:
    """The machine in words."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
