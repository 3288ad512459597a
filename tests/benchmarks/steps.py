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

from eliquare.config.objective import Objective
from eliquare.distillation.objective import Distillation, Teacher

MBERT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
}
FULL_VOCABULARY = 119_547


def model(layers: int, vocabulary: int, device: str, seed: int) -> transformers.PreTrainedModel:
    """Return a model of mBERT's shape with random weights; seed 0 is the teacher."""
    torch.manual_seed(seed)
    config = transformers.BertConfig(num_hidden_layers=layers, vocab_size=vocabulary, **MBERT)
    result = transformers.BertForMaskedLM(config).to(device)
    return result.eval().requires_grad_(False) if seed == 0 else result.train()


def batch(sequences: int, length: int, vocabulary: int, device: str) -> dict[str, torch.Tensor]:
    """Return full rows of random tokens, 15% with a label."""
    generator = torch.Generator().manual_seed(2)
    shape = sequences, length
    ids = torch.randint(5, vocabulary, shape, generator=generator)
    masked = torch.rand(shape, generator=generator) < 0.15
    tensors = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.where(masked, ids, -100),
        "masked": masked.flatten().nonzero().squeeze(-1),
        "unmasked": (~masked).flatten().nonzero().squeeze(-1),
    }
    return {name: tensor.to(device) for name, tensor in tensors.items()}


Side = tuple[transformers.PreTrainedModel, Callable[[], torch.Tensor]]


Models = tuple[transformers.PreTrainedModel, transformers.PreTrainedModel]


def models(vocabulary: int, device: str) -> Models:
    """Return teacher and student: 12 layers and 6."""
    return model(12, vocabulary, device, seed=0), model(6, vocabulary, device, seed=1)


def side(
    name: str, sequences: int, length: int, device: str, both: Models | None = None, **settings
) -> Side:
    """Return the student and the step, forward and backward, of "plain" or "ours".

    ``both``: the models, where sides share them; ``settings``: ``vocabulary``, ``positions`` and
    ``bf16`` of ours.
    """
    vocabulary = settings.get("vocabulary", FULL_VOCABULARY)
    bf16 = settings.get("bf16", False)
    teacher, student = both or models(vocabulary, device)
    inputs = batch(sequences, length, vocabulary, device)
    if name == "ours":
        terms = Objective.model_validate({"kl": {"positions": settings.get("positions", "all")}})
        objective = Distillation(student, [Teacher(teacher)], terms)
        counts = objective.counts(inputs)
        scales = {name: term.weight.at(0) / counts[name] for name, term in objective.terms.items()}

    def step() -> torch.Tensor:
        torch.manual_seed(3)
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            if name == "ours":
                loss = objective(student, inputs, scales).loss
            else:
                loss, _ = plain_step(student, teacher, inputs)
        loss.backward()
        return loss.detach()

    return student, step


def seconds(student: transformers.PreTrainedModel, step: Callable, device: str) -> float:
    """Return how long one step takes, without gradients at its start."""
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
    """Return seconds of each side's steps, in turn, after one of each that is not measured."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, (student, step) in sides.items():
            needed = seconds(student, step, device)
            if repeat:
                taken[name].append(round(needed, 3))
    return taken


def medians(taken: dict[str, list[float]], tokens: int) -> dict:
    """Return tokens per second of each side, and how many times faster ours is."""
    speeds = {name: tokens / statistics.median(values) for name, values in taken.items()}
    return {
        "seconds": taken,
        "tokens_per_second": {name: round(speed, 1) for name, speed in speeds.items()},
        "times_faster": round(speeds["ours"] / speeds["plain"], 2),
    }


def memory_of(script: str, options: list[str]) -> dict[str, float]:
    """Return GB above the models at the peak of each side's step, each in its own process."""
    memory = {}
    for name in ("plain", "ours"):
        command = [sys.executable, script, "--memory-of", name, *options]
        memory[name] = json.loads(subprocess.check_output(command))
    return memory


def peak_above_models(of: Side, device: str) -> float:
    """Return GB above models and gradients at the peak of one step."""
    student, step = of
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
    """Return the bytes of memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def hardware(device: str) -> str:
    """Return the machine in words."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
