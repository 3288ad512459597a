"""A student in int8 against its teacher in float32, on one thread of the processor, in one run.

    OMP_NUM_THREADS=1 python tests/benchmarks/int8.py [--widths 384 768] [--repeats 5]

The teacher is a BERT of 12 layers with XLM-R's 250,002 tokens, in torch; the student has 6 layers
and 16,000 tokens, in torch, and in ONNX Runtime in float32 and in both int8 forms that are tried.
Weights are random, which take as long as any. All get the same tokens, without padding, and run in
turns, so that other work on the machine meets all. The encoder alone is what a tagger, a classifier
or a sentence encoder runs; with the MLM head, each position also has a logit per token.

Printed is JSON: medians in milliseconds; how many times as fast as the teacher each form is, with
the middle half of the ratios of single turns; bytes of the parameters or of the file.
"""

import argparse
import functools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertForMaskedLM

sys.path.insert(0, str(Path(__file__).parents[2] / "workflow"))

from eliquare.export import onnx
from eliquare.io import processor_name

SHAPES = [(1, 16), (1, 128), (32, 64)]
NAMES = ["input_ids", "attention_mask", "token_type_ids"]
KNOWN = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")


def model_of(width, layers, vocabulary):
    """Return a BERT with an MLM head and random weights."""
    shape = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": 12}
    config = BertConfig(vocab_size=vocabulary, num_hidden_layers=layers, **shape)
    return BertForMaskedLM(config).eval()


def inputs(vocabulary, batch, length):
    """Return random tokens, as torch's tensors."""
    ids = torch.randint(5, vocabulary, (batch, length))
    return dict(zip(NAMES, (ids, torch.ones_like(ids), torch.zeros_like(ids)), strict=True))


def exported(model, head, folder):
    """Return sessions of a model: float32, and int8 in both ways."""
    batch = {k: v.numpy() for k, v in inputs(model.config.vocab_size, 8, 64).items()}
    onnx.write_graph(model, head, NAMES, batch, folder / onnx.FLOAT)
    session = onnx.Session(folder / onnx.FLOAT)
    onnx.compare(model, session, batch, NAMES)
    paths = dict(onnx.quantized(session, folder, [batch]))
    return {"float32": session} | {
        f"int8, {name}": onnx.Session(path) for name, path in paths.items()
    }


def in_turns(steps, repeats):
    """Return milliseconds of each step, by turns, after a first turn that is not counted."""
    found = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if turn:
                found[name].append((time.perf_counter() - started) * 1000)
    return found


def rounded(values):
    """Return numbers with three digits."""
    return [float(f"{value:.3g}") for value in values]


def measured(teacher, student, head, folder, repeats):
    """Return bytes and times of a teacher and of the forms of its student."""
    sessions = exported(student, head, folder)
    full = sum(p.numel() * p.element_size() for p in teacher.parameters())
    sizes = {name: session.path.stat().st_size for name, session in sessions.items()}
    report = {
        "megabytes": {"teacher": round(full / 1e6, 1)}
        | {name: round(size / 1e6, 1) for name, size in sizes.items()},
        "times_as_small": {name: round(full / size, 1) for name, size in sizes.items()},
        "speeds": [],
    }
    for batch, length in SHAPES:
        given = inputs(student.config.vocab_size, batch, length)
        arrays = {key: value.numpy() for key, value in given.items()}
        steps = {"teacher": functools.partial(teacher, **given)}
        steps |= {"torch": functools.partial(student, **given)}
        steps |= {name: functools.partial(session, arrays) for name, session in sessions.items()}
        times = in_turns(steps, repeats)
        medians = {name: statistics.median(values) for name, values in times.items()}
        quarters = {
            name: np.quantile(np.divide(times["teacher"], values), [0.25, 0.75])
            for name, values in times.items()
        }
        report["speeds"].append(
            {
                "texts": batch,
                "tokens": length,
                "milliseconds": dict(zip(medians, rounded(medians.values()), strict=True)),
                "times_as_fast": {
                    name: rounded([medians["teacher"] / medians[name], *quarters[name]])
                    for name in times
                    if name != "teacher"
                },
            }
        )
    return report


def main():
    """Measure each width, with and without the MLM head."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--teacher-layers", type=int, default=12)
    parser.add_argument("--widths", type=int, nargs="+", default=[384, 768])
    parser.add_argument("--vocabulary", type=int, default=16_000)
    parser.add_argument("--teacher-vocabulary", type=int, default=250_002)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    report = {
        "processor": processor_name(),
        "instructions": [name for name in KNOWN if f" {name} " in flags],
        "threads": 1,
        "layers": [options.teacher_layers, options.layers],
        "vocabulary": [options.teacher_vocabulary, options.vocabulary],
        "widths": {},
    }
    for width in options.widths:
        torch.manual_seed(0)
        teacher = model_of(width, options.teacher_layers, options.teacher_vocabulary)
        student = model_of(width, options.layers, options.vocabulary)
        parts = {
            "encoder": (teacher.bert, student.bert, "feature-extraction"),
            "encoder and MLM head": (teacher, student, "fill-mask"),
        }
        report["widths"][width] = {}
        for name, part in parts.items():
            with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
                found = measured(*part, Path(folder), options.repeats)
            report["widths"][width][name] = found
            print(f"{width}, {name}: {found['speeds']}", file=sys.stderr, flush=True)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
