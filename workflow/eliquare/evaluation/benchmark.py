"""Measure a model: parameters, size on disk, latency, throughput, peak memory.

The encoder is measured alone and with its MLM head: fine-tuned systems never run that head, and
with a multilingual vocabulary its logits are most of the memory (batch x length x vocabulary).
"""

import contextlib
import ctypes
import gc
import re
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
import transformers
from pydantic import Field
from transformers import PreTrainedModel

from eliquare import cli
from eliquare.config.model import Benchmark
from eliquare.io import InputError, atomic_write, processor_name, write_json
from eliquare.models.loading import load_for_benchmark, max_sequence_length

WARM_UP_BATCHES = 2
# A small model takes a millisecond: so few batches would all fall into one moment of other work.
MINIMUM_SECONDS = 0.5
MEGABYTE = 1_000_000
CUDA_MEMORY = "torch.cuda.max_memory_allocated above the memory allocated before the batch"
LINUX_MEMORY = "growth of the resident set's high-water mark (VmHWM) during the batch"
OTHER_MEMORY = "growth of the process's peak resident set (ru_maxrss) during the batch"

Step = Callable[[], None]  # one batch


class BenchmarkOptions(cli.Options, Benchmark):
    """Options of ``evaluation benchmark``."""

    model: str = Field(description="Model folder, or hub id.")
    revision: str | None = Field(None, description="Revision of a hub id.")
    language: str = Field(description="Code of the language, for the output.")
    system: str = Field(description="Name of the system, for the output.")
    device: str | None = Field(None, description="cpu, cuda, cuda:1; cuda where there is one.")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Arithmetic."
    )
    output: Path = Field(description="JSON file to write.")


def benchmark(options: BenchmarkOptions) -> None:
    """Measure the parameters, latency, throughput and memory of a model."""
    torch.set_num_threads(options.threads)
    on_cuda = torch.cuda.is_available()
    device = torch.device(options.device or ("cuda" if on_cuda else "cpu"))
    if device.type == "cuda" and not on_cuda:
        raise InputError(f"--device {device}: torch sees no CUDA device; use --device cpu")
    model, folder = load_for_benchmark(
        options.model, options.revision, getattr(torch, options.precision)
    )
    longest = max_sequence_length(model)
    if options.sequence_length > longest:
        raise InputError(
            f"--sequence-length {options.sequence_length}: {options.model} takes at most {longest} "
            f"tokens"
        )
    model.to(device)  # type: ignore[arg-type]
    report = {
        "system": options.system,
        "language": options.language,
        "parameters": count_parameters(model),
        "tied_embeddings": has_tied_embeddings(model),
        "vocab_size": model.config.vocab_size,
        "weights_mb": weights_size(folder),
        "device": torch.cuda.get_device_name(device) if on_cuda else processor_name(),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "precision": options.precision,
        "sequence_length": options.sequence_length,
        "repeats": options.repeats,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "peak_memory_method": "",
        "measurements": [],
    }
    for batch_size in sorted(set(options.batch_sizes)):
        batch = random_batch(model, batch_size, options.sequence_length, device)
        for part, module in (("encoder", model.base_model), ("encoder_and_mlm_head", model)):
            step = forward_pass(module, batch)
            timed = latency(step, options.repeats, device)
            memory, report["peak_memory_method"] = peak_memory(step, device)
            seconds = timed["median"] / 1000
            report["measurements"].append(
                {
                    "batch_size": batch_size,
                    "part": part,
                    "latency_ms": timed,
                    "sequences_per_second": round(batch_size / seconds, 2),
                    "tokens_per_second": round(batch_size * options.sequence_length / seconds, 1),
                    "peak_memory_mb": round(memory, 2),
                }
            )
    with atomic_write(options.output) as partial:
        write_json(partial, report)


def count_parameters(model: PreTrainedModel) -> dict[str, int]:
    """Count parameters, each tensor once however many modules share it.

    ``head`` is the MLM head without the matrix that it shares with the input embeddings.
    """

    def count(tensors: Iterable[torch.Tensor]) -> int:
        return sum({id(tensor): tensor.numel() for tensor in tensors}.values())

    body = list(model.base_model.parameters())
    ids = {id(tensor) for tensor in body}
    embedding_layer: Any = model.base_model.embeddings
    embeddings = count(embedding_layer.parameters())
    return {
        "total": count(model.parameters()),
        "embeddings": embeddings,
        "encoder": count(body) - embeddings,
        "head": count(tensor for tensor in model.parameters() if id(tensor) not in ids),
    }


def has_tied_embeddings(model: PreTrainedModel) -> bool:
    """Return whether the MLM head multiplies by the input embeddings themselves."""
    output: Any = model.get_output_embeddings()
    inputs: Any = model.get_input_embeddings()
    return output is not None and output.weight is inputs.weight


def weights_size(folder: Path) -> float:
    """Return megabytes (10^6 bytes) of the weight files: safetensors, else .bin."""
    files = list(folder.glob("*.safetensors")) or list(folder.glob("*.bin"))
    return round(sum(file.stat().st_size for file in files) / MEGABYTE, 2)


def random_batch(
    model: PreTrainedModel, batch_size: int, length: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """Return ``input_ids[batch, tokens]`` drawn evenly from the vocabulary, without padding."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (batch_size, length), generator=generator)
    return {"input_ids": ids.to(device), "attention_mask": torch.ones_like(ids, device=device)}


def forward_pass(module: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> Step:
    """Return a function that runs the module once on the batch."""

    def step() -> None:
        with torch.inference_mode():
            module(**batch)

    return step


def latency(step: Step, repeats: int, device: torch.device) -> dict[str, float]:
    """Return milliseconds per step, median and quartiles, after a warm-up.

    Over ``repeats`` steps, or more if these take less than half a second.
    """

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(WARM_UP_BATCHES):
        step()
    milliseconds: list[float] = []
    while len(milliseconds) < repeats or sum(milliseconds) < 1000 * MINIMUM_SECONDS:
        wait()
        started = time.perf_counter()
        step()
        wait()
        milliseconds.append((time.perf_counter() - started) * 1000)
    lower, median, upper = numpy.percentile(milliseconds, [25, 50, 75])
    return {
        "median": round(float(median), 3),
        "lower_quartile": round(float(lower), 3),
        "upper_quartile": round(float(upper), 3),
    }


def peak_memory(step: Step, device: torch.device) -> tuple[float, str]:
    """Run a step; return its peak memory in MB above that held before, and how it is known."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / MEGABYTE, CUDA_MEMORY
    try:
        return_freed_memory()
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to the resident set
        before = resident_bytes("VmRSS")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        step()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return (after - before) / MEGABYTE, OTHER_MEMORY
    step()
    return max(resident_bytes("VmHWM") - before, 0) / MEGABYTE, LINUX_MEMORY


def return_freed_memory() -> None:
    """Give the allocator's free pages back, or the next batch would reuse them unseen."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def resident_bytes(key: str) -> int:
    """Return the process's resident set: key VmRSS now, VmHWM its high-water mark."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{key}:\s+(\d+) kB", status)
    if found is None:
        raise OSError(f"no {key} in /proc/self/status")
    return int(found[1]) * 1024
