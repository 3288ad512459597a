"""The default recipe beside DistilBERT's plain step at the full vocabulary: tokens a second.

    python tests/benchmarks/default_recipe.py
    python tests/benchmarks/default_recipe.py --positions masked
    python tests/benchmarks/default_recipe.py --device cuda --sequences 128 --length 256

Ours: 20,000 sub-words, and bf16 where the processor has it (else float32, which the result says);
plain: 119,547 sub-words, float32 on a processor, bf16 on a GPU. Both mBERT's shape, 12 layers to 6,
forward and backward of one batch. That both compute the same loss is for distillation_step.py to
show, at one vocabulary. Prints JSON.

With ``--device cuda`` also the card's measured rate of bf16 products, the share of it that useful
arithmetic reaches, and the hours that 20,000 steps of 1,600 sequences of 256 tokens would take at
the measured pace; ``--largest-batch`` finds the largest batch that fits on each side.
"""

import argparse
import json
import time

import steps
import torch

REDUCED_VOCABULARY = 20_000
PAPERS_TOKENS = 20_000 * 1_600 * 256


def main() -> None:
    """Measure in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--positions", choices=["all", "masked"], default="all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--largest-batch", action="store_true")
    arguments = parser.parse_args()
    gpu = arguments.device == "cuda"
    if gpu and not torch.cuda.is_available():
        raise SystemExit("--device cuda: there is no GPU here, so nothing was measured")
    if arguments.largest_batch and not gpu:
        raise SystemExit("--largest-batch: belongs to --device cuda")
    torch.set_num_threads(arguments.threads)
    bf16 = gpu or has_bf16()
    shape = (arguments.length, arguments.device)
    ours = {
        "vocabulary": REDUCED_VOCABULARY,
        "positions": arguments.positions,
        "bf16": bf16,
    }
    sides = {
        "plain": steps.side("plain", arguments.sequences, *shape, bf16=gpu),
        "ours": steps.side("ours", arguments.sequences, *shape, **ours),
    }
    tokens = arguments.sequences * arguments.length
    result = {
        "machine": steps.hardware(arguments.device),
        "batch": f"{arguments.sequences} x {arguments.length}",
        "ours": ours,
        **steps.medians(steps.in_turn(sides, arguments.repeats, arguments.device), tokens),
    }
    if gpu:
        pace = result["tokens_per_second"]["ours"]
        rate = bf16_rate()
        useful = pace * operations_of_a_token(arguments.length, arguments.positions)
        result["bf16_tflops"] = round(rate / 1e12, 1)
        result["share_of_bf16_rate"] = round(useful / rate, 3)
        result["hours_of_the_papers_budget"] = round(PAPERS_TOKENS / pace / 3600, 2)
    if arguments.largest_batch:
        del sides
        result["largest_batch"] = {
            "plain": largest("plain", shape, {"bf16": True}),
            "ours": largest("ours", shape, ours),
        }
    print(json.dumps(result, indent=2))


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def bf16_rate(size: int = 8192, repeats: int = 50) -> float:
    """Operations a second of a large product of bf16 matrices on this GPU."""
    one, other = torch.randn(2, size, size, device="cuda", dtype=torch.bfloat16)
    for _ in range(5):
        one @ other
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(repeats):
        one @ other
    torch.cuda.synchronize()
    return 2 * size**3 * repeats / (time.perf_counter() - begun)


def operations_of_a_token(length: int, positions: str) -> float:
    """Useful operations for each token: products of matrices, a backward pass twice a forward."""
    hidden, intermediate = steps.MBERT["hidden_size"], steps.MBERT["intermediate_size"]
    layer = 2 * (4 * hidden**2 + 2 * hidden * intermediate) + 4 * length * hidden
    head = 2 * hidden * (hidden + REDUCED_VOCABULARY) * (1.0 if positions == "all" else 0.15)
    return 12 * layer + head + 3 * (6 * layer + head)


def largest(name: str, shape: tuple[int, str], settings: dict) -> int:
    """The most sequences, in powers of two, whose step fits into the GPU's memory."""
    fits, sequences = 0, 8
    while True:
        torch.cuda.empty_cache()
        try:
            _, step = steps.side(name, sequences, *shape, **settings)
            step()
        except torch.cuda.OutOfMemoryError:
            return fits
        fits, sequences = sequences, 2 * sequences


if __name__ == "__main__":
    main()
