"""Measure a model: parameters, size on disk, latency, throughput, peak memory.

The encoder is measured alone and with its MLM head: fine-tuned systems never run that head, and
with a multilingual vocabulary its logits are most of the memory (batch × length × vocabulary).
"""

import argparse
import contextlib
import gc
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from eliquare import stage

VERSION = 2

WARM_UP = 2
# A small model takes a millisecond: so few batches would all fall into one moment of other work.
LEAST_SECONDS = 0.5
MEGABYTE = 1_000_000
PRECISIONS = ("float32", "bfloat16", "float16")
CUDA_MEMORY = "torch.cuda.max_memory_allocated above what was allocated before the batch"
LINUX_MEMORY = "growth of the resident set's high-water mark (VmHWM) during the batch"
OTHER_MEMORY = "growth of the process's peak resident set (ru_maxrss) during the batch"


def load(name: str, revision: str | None, precision: str):
    """The model with its MLM head, in evaluation mode, and the folder that its files lie in.

    Raises InputError when the folder or hub id holds no masked language model.
    """
    import torch
    from transformers import AutoModelForMaskedLM
    from transformers.utils import cached_file, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model = AutoModelForMaskedLM.from_pretrained(
            name, revision=revision, dtype=getattr(torch, precision)
        )
        folder = Path(cached_file(name, "config.json", revision=revision)).parent
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise stage.InputError(
            f"{name}: no masked language model that transformers can load ({reason})"
        ) from None
    return model.eval(), folder


def parameters(model) -> dict:
    """Count parameters, each tensor once however many modules share it.

    ``head`` is the MLM head without the matrix that it shares with the input embeddings.
    """

    def count(tensors) -> int:
        return sum({id(tensor): tensor.numel() for tensor in tensors}.values())

    body = list(model.base_model.parameters())
    ids = {id(tensor) for tensor in body}
    embeddings = count(model.base_model.embeddings.parameters())
    return {
        "total": count(model.parameters()),
        "embeddings": embeddings,
        "encoder": count(body) - embeddings,
        "head": count(tensor for tensor in model.parameters() if id(tensor) not in ids),
    }


def tied(model) -> bool:
    """Whether the MLM head multiplies by the input embeddings themselves."""
    output = model.get_output_embeddings()
    return output is not None and output.weight is model.get_input_embeddings().weight


def weights_size(folder: Path) -> float:
    """Megabytes (10^6 bytes) of the weight files: safetensors, or .bin where there are none."""
    files = list(folder.glob("*.safetensors")) or list(folder.glob("*.bin"))
    return round(sum(file.stat().st_size for file in files) / MEGABYTE, 2)


def resident(key: str) -> int:
    """Bytes of the process's resident set: key VmRSS now, VmHWM its high-water mark."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{key}:\s+(\d+) kB", status).group(1)) * 1024


def peak_memory(step: Callable[[], None], device) -> tuple[float, str]:
    """Run ``step`` once: its peak memory in MB above what was held before, and how it is known."""
    import torch

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
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is resident now
        before = resident("VmRSS")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        step()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return (after - before) / MEGABYTE, OTHER_MEMORY
    step()
    return max(resident("VmHWM") - before, 0) / MEGABYTE, LINUX_MEMORY


def return_freed_memory() -> None:
    """Give the allocator's free pages back, or the next batch would reuse them unseen."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def latency(step: Callable[[], None], repeats: int, device) -> dict[str, float]:
    """Milliseconds of one step: median and quartiles, after a warm-up.

    Over ``repeats`` steps, or more if these take less than half a second.
    """
    import numpy
    import torch

    def finished() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(WARM_UP):
        step()
    milliseconds = []
    while len(milliseconds) < repeats or sum(milliseconds) < 1000 * LEAST_SECONDS:
        finished()
        started = time.perf_counter()
        step()
        finished()
        milliseconds.append((time.perf_counter() - started) * 1000)
    lower, median, upper = numpy.percentile(milliseconds, [25, 50, 75])
    return {
        "median": round(float(median), 3),
        "lower_quartile": round(float(lower), 3),
        "upper_quartile": round(float(upper), 3),
    }


def measure(
    model, batch_sizes: list[int], length: int, repeats: int, device
) -> tuple[list[dict], str]:
    """Latency, throughput and peak memory for each batch size, of the encoder alone and with head.

    The batches are full: batch × length sub-words drawn evenly from the vocabulary. Returns the
    rows and how the memory was measured.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    rows, method = [], ""
    for batch_size in sorted(set(batch_sizes)):
        shape = (batch_size, length)
        ids = torch.randint(model.config.vocab_size, shape, generator=generator).to(device)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        for part, called in (("encoder", model.base_model), ("encoder_and_mlm_head", model)):

            def step(called=called, batch=batch) -> None:
                with torch.inference_mode():
                    called(**batch)

            timed = latency(step, repeats, device)
            memory, method = peak_memory(step, device)
            seconds = timed["median"] / 1000
            rows.append(
                {
                    "batch_size": batch_size,
                    "part": part,
                    "latency_ms": timed,
                    "sequences_per_second": round(batch_size / seconds, 2),
                    "tokens_per_second": round(batch_size * length / seconds, 1),
                    "peak_memory_mb": round(memory, 2),
                }
            )
    return rows, method


def longest(model) -> int:
    """The longest sequence in sub-words, special tokens included, that the positions allow."""
    table = getattr(model.base_model.embeddings, "position_embeddings", None)
    if table is None:
        return model.config.max_position_embeddings
    # RoBERTa and XLM-R number their positions from the padding id + 1.
    skipped = 0 if table.padding_idx is None else table.padding_idx + 1
    return table.num_embeddings - skipped


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(prog="python -m eliquare.measure", description=__doc__)
    options.add_argument("--model", required=True, help="model folder or hub id")
    options.add_argument("--revision", help="revision of a hub id")
    options.add_argument("--language", required=True, help="language code, written to the output")
    options.add_argument("--system", required=True, help="system's name, written to the output")
    options.add_argument(
        "--batch-size", type=int, action="append", help="sequences a batch; repeatable (1 and 32)"
    )
    options.add_argument("--length", type=int, default=128, help="sub-words in a sequence (128)")
    options.add_argument("--repeats", type=int, default=10, help="timed batches, at least (10)")
    options.add_argument("--threads", type=int, help="CPU threads (as many as torch takes)")
    options.add_argument("--device", help="cpu, cuda, cuda:1 … (cuda where there is one)")
    options.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="arithmetic (float32)"
    )
    options.add_argument("--output", required=True, type=Path, help="JSON file to write")
    return options


def run(arguments: argparse.Namespace) -> None:
    """Measure one model and write one JSON file."""
    import torch
    import transformers

    batch_sizes = arguments.batch_size or [1, 32]
    for option, value in (
        ("--batch-size", min(batch_sizes)),
        ("--length", arguments.length),
        ("--repeats", arguments.repeats),
        ("--threads", 1 if arguments.threads is None else arguments.threads),
    ):
        if value < 1:
            raise stage.InputError(f"{option} {value}: expected at least 1")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and not torch.cuda.is_available():
        raise stage.InputError(f"--device {device}: torch sees no CUDA device; use --device cpu")
    model, folder = load(arguments.model, arguments.revision, arguments.precision)
    if arguments.length > longest(model):
        raise stage.InputError(
            f"--length {arguments.length}: {arguments.model} has positions for {longest(model)}"
        )
    model.to(device)
    rows, method = measure(model, batch_sizes, arguments.length, arguments.repeats, device)
    on_cuda = device.type == "cuda"
    with stage.whole_file(arguments.output) as beside:
        stage.write_json(
            beside,
            {
                "system": arguments.system,
                "language": arguments.language,
                "parameters": parameters(model),
                "tied_embeddings": tied(model),
                "vocabulary_size": model.config.vocab_size,
                "weights_mb": weights_size(folder),
                "device": torch.cuda.get_device_name(device) if on_cuda else stage.processor_name(),
                "threads": torch.get_num_threads(),
                "precision": arguments.precision,
                "length": arguments.length,
                "repeats": arguments.repeats,
                "peak_memory_method": method,
                "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
                "measurements": rows,
            },
        )


if __name__ == "__main__":
    stage.main(parser(), run)
