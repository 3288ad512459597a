"""Our distillation step beside DistilBERT's plain one: speed and memory, same loss and gradients.

    python tests/benchmarks/distillation_step.py --length 128
    python tests/benchmarks/distillation_step.py --length 512 --repeats 3

Forward and backward of one batch of 8 sequences, mBERT's shape (12 layers to 6) with 119,547
sub-words, all positions, float32 and dropout at work. Prints JSON. ``--device cuda`` does the same
on a GPU; ``--vocabulary`` shrinks it for a quick look.
"""

import argparse
import json

import steps
import torch


def main() -> None:
    """Compare, then measure in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--vocabulary", type=int, default=steps.FULL_VOCABULARY)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-of", choices=["plain", "ours"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: there is no GPU here, so nothing was measured")
    torch.set_num_threads(arguments.threads)
    settings = (arguments.sequences, arguments.length, arguments.device)
    if arguments.memory_of:
        side = steps.side(arguments.memory_of, *settings, vocabulary=arguments.vocabulary)
        print(steps.peak_above_models(side, arguments.device))
        return
    names = ("sequences", "length", "device", "threads", "vocabulary")
    options = [f"--{name}={getattr(arguments, name)}" for name in names]
    memory = steps.memory_of(__file__, options)
    # One pair of models for both, or the plain side has no room left for 8 x 512 in 24 GiB.
    models = steps.models(arguments.vocabulary, arguments.device)
    sides = {
        name: steps.side(name, *settings, models, vocabulary=arguments.vocabulary)
        for name in ("plain", "ours")
    }
    result = {
        "machine": steps.hardware(arguments.device),
        "batch": f"{arguments.sequences} x {arguments.length}, float32, all positions",
        "vocabulary": arguments.vocabulary,
        "same": same(sides),
        **steps.medians(
            steps.in_turn(sides, arguments.repeats, arguments.device),
            arguments.sequences * arguments.length,
        ),
        "gb_above_models": {name: round(value, 2) for name, value in memory.items()},
        "share_of_memory": round(memory["ours"] / memory["plain"], 3),
    }
    print(json.dumps(result, indent=2))


def same(sides: dict[str, steps.Side]) -> dict[str, float]:
    """Return how far apart loss and gradients are, relative to plain; exit if they differ."""
    losses, gradients = {}, {}
    for name, (student, step) in sides.items():
        student.zero_grad()
        losses[name] = float(step())
        gradients[name] = [parameter.grad for parameter in student.parameters()]
    apart = abs(losses["ours"] / losses["plain"] - 1)
    worst = max(
        float((ours - plain).norm() / plain.norm().clamp(min=1e-12))
        for ours, plain in zip(gradients["ours"], gradients["plain"], strict=True)
        if plain.norm() > 1e-6
    )
    if apart > 1e-5 or worst > 1e-4:
        raise SystemExit(f"not the same: loss {apart:.1e} apart, gradients {worst:.1e}")
    return {"loss": losses["plain"], "loss_apart": apart, "gradients_apart": worst}


if __name__ == "__main__":
    main()
