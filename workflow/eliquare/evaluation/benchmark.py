"""Measure a model: parameters, size on disk, latency, throughput, peak memory.

The encoder is measured alone and with its MLM head, where one is stored: fine-tuned systems never
run that head, and with a multilingual vocabulary its logits are most of the memory (batch x length
x vocabulary).
"""

import contextlib
import ctypes
import functools
import gc
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from pydantic import Field
from transformers import PreTrainedModel

from eliquare import cli
from eliquare.config.model import Benchmark
from eliquare.io import InputError, atomic_write, processor_name, why_unavailable, write_json
from eliquare.models.hub import local_folder
from eliquare.models.loading import has_mlm_head, load_model, max_sequence_length

WARM_UP_BATCHES = 2
# A small model takes a millisecond: so few batches would all fall into one moment of other work.
MINIMUM_SECONDS = 0.5
MEGABYTE = 1_000_000
CUDA_MEMORY = "torch.cuda.max_memory_allocated above the memory allocated before the batch"
LINUX_MEMORY = "growth of the resident set's high-water mark (VmHWM) during the batch"
OTHER_MEMORY = "growth of the process's peak resident set (ru_maxrss) during the batch"

Step = Callable[[], object]  # one batch


class BenchmarkOptions(cli.Options, Benchmark):
    """Options of ``evaluation benchmark``."""

    model: str = Field(description="Model folder, or hub id.")
    revision: str | None = Field(None, description="Revision of a hub id.")
    language: str = Field(description="Code of the language, for the output.")
    system: str = Field(description="Name of the system, for the output.")
    device: str | None = Field(
        None,
        pattern=r"^(cpu|cuda(:\d{1,2})?)$",
        description="cpu, cuda, cuda:1; cuda where there is one.",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Arithmetic."
    )
    output: Path = Field(description="JSON file to write.")


def benchmark(options: BenchmarkOptions) -> None:
    """Measure the parameters, latency, throughput and memory of a model."""
    if reason := why_unavailable(options.model):
        names = {"system": options.system, "language": options.language}
        with atomic_write(options.output) as partial:
            write_json(partial, {**names, "unavailable": reason})
        return
    torch.set_num_threads(options.threads)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    on_cuda = device.type == "cuda"
    if on_cuda and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device {device}: torch sees {torch.cuda.device_count()} CUDA devices, counted from "
            "0; use one of them, or --device cpu"
        )
    folder = local_folder(options.model, options.revision)
    model = load_model(folder, getattr(torch, options.precision))
    parts = {"encoder": model.base_model}
    parts |= {"encoder_and_mlm_head": model} if has_mlm_head(model) else {}
    longest = max_sequence_length(model)
    if options.sequence_length > longest:
        raise InputError(
            f"--sequence-length {options.sequence_length}: {options.model} takes at most {longest} "
            f"tokens"
        )
    model.to(device)  # type: ignore[arg-type]
    # Drawn evenly from the vocabulary, without padding.
    generator = torch.Generator().manual_seed(0)
    shape = (max(options.batch_sizes), options.sequence_length)
    ids = torch.randint(model.config.vocab_size, shape, generator=generator).to(device)
    measurements = []
    memory_method = ""
    for batch_size in sorted(set(options.batch_sizes)):
        batch = {"input_ids": ids[:batch_size], "attention_mask": torch.ones_like(ids[:batch_size])}
        for part, module in parts.items():
            step = functools.partial(module, **batch)
            with torch.inference_mode():
                timed = latency(step, options.repeats, device)
                memory, memory_method = peak_memory(step, device)
            seconds = timed["median"] / 1000
            measurements.append(
                {
                    "batch_size": batch_size,
                    "part": part,
                    "latency_ms": timed,
                    "sequences_per_second": round(batch_size / seconds, 2),
                    "tokens_per_second": round(batch_size * options.sequence_length / seconds, 1),
                    "peak_memory_mb": round(memory, 2),
                }
            )
    output: Any = model.get_output_embeddings()
    inputs: Any = model.get_input_embeddings()
    weights = list(folder.glob("*.safetensors")) or list(folder.glob("*.bin"))
    report = {
        "system": options.system,
        "language": options.language,
        "parameters": count_parameters(model),
        "tied_embeddings": output is not None and output.weight is inputs.weight,
        "vocab_size": model.config.vocab_size,
        "weights_mb": round(sum(file.stat().st_size for file in weights) / MEGABYTE, 2),
        "device": torch.cuda.get_device_name(device) if on_cuda else processor_name(),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "precision": options.precision,
        "sequence_length": options.sequence_length,
        "repeats": options.repeats,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "peak_memory_method": memory_method,
        "measurements": measurements,
    }
    with atomic_write(options.output) as partial:
        write_json(partial, report)


def count_parameters(model: PreTrainedModel) -> dict[str, int]:
    """Count parameters, each once; the head's without the matrix that it shares with embeddings."""
    body: Any = model.base_model
    # EuroBERT has the matrix of its tokens alone.
    parts = (model, body, getattr(body, "embeddings", None) or body.get_input_embeddings())
    total, encoder, embeddings = (
        sum(parameter.numel() for parameter in part.parameters()) for part in parts
    )
    return {
        "total": total,
        "embeddings": embeddings,
        "encoder": encoder - embeddings,
        "head": total - encoder,
    }


@contextlib.contextmanager
def on_threads(number: int) -> Iterator[None]:
    """Let torch use this number of threads, and then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def latency(step: Step, repeats: int, device: torch.device) -> dict[str, float]:
    """Return milliseconds per step, median and quartiles, after a warm-up.

    Over ``repeats`` steps, or more if these take less than half a second.
    """
    wait = functools.partial(torch.get_device_module(device).synchronize, device)
    for _ in range(WARM_UP_BATCHES):
        step()
    milliseconds: list[float] = []
    while len(milliseconds) < repeats or sum(milliseconds) < 1000 * MINIMUM_SECONDS:
        wait()
        started = time.perf_counter()
        step()
        wait()
        milliseconds.append((time.perf_counter() - started) * 1000)
    lower, median, upper = statistics.quantiles(milliseconds, n=4, method="inclusive")
    quartiles = {"median": median, "lower_quartile": lower, "upper_quartile": upper}
    return {name: round(value, 3) for name, value in quartiles.items()}


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
    method = OTHER_MEMORY
    with contextlib.suppress(OSError, AttributeError):
        # Without this, the allocator would use its free pages for the batch, unseen.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to the resident set
        method = LINUX_MEMORY
    before = peak_resident()
    step()
    return (peak_resident() - before) / MEGABYTE, method


def peak_resident() -> int:
    """Return the highest resident set in bytes: since it was set back, or the process began."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text() if status.exists() else "")
    if found:
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
