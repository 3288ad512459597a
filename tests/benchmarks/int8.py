"""A student in int8 against its teacher in float32, per thread of the processor, in one run.

    python tests/benchmarks/int8.py [--layers 6] [--teacher-layers 12] [--heads tagger masked]

Both have BERT-base's width and random weights, which take as long as any; the student has half the
layers and a reduced vocabulary, the teacher mBERT's 119,547 tokens, as in the default recipe. They
are run in turns, a few times each, so that other work on the machine meets both. Printed are the
median times, their ratio, with the middle half of the ratios of single turns, and the bytes.
"""

import argparse
import functools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertForMaskedLM, BertForTokenClassification

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "workflow")]

import families  # noqa: E402
from eliquare.export import onnx  # noqa: E402
from eliquare.io import processor_name  # noqa: E402

SHAPES = [(1, 16), (1, 128), (8, 32)]
HEADS = {"tagger": BertForTokenClassification, "masked": BertForMaskedLM}


def exported(model, head, folder):
    """Return sessions of a model: float32, and int8 in both ways."""
    batch = next(onnx.batches_of(families.wordpiece(True), families.sentences("qaa")[:8], 64))
    names = ["input_ids", "attention_mask", "token_type_ids"]
    onnx.write_graph(model, head, names, batch, folder / onnx.FLOAT)
    session = onnx.Session(folder / onnx.FLOAT)
    onnx.compare(model, session, batch, names)
    paths = dict(onnx.quantized(session, folder, [batch]))
    return {"float32": session} | {name: onnx.Session(path) for name, path in paths.items()}


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--teacher-layers", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=16_000)
    parser.add_argument("--teacher-vocabulary", type=int, default=119_547)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    known = [name for name in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")]
    print(f"{processor_name()}: {', '.join(name for name in known if f' {name} ' in flags)}")
    for title, kind in ((title, HEADS[title]) for title in options.heads):
        head = "fill-mask" if kind is BertForMaskedLM else "token-classification"
        torch.manual_seed(0)
        shape = {"num_labels": 17} if head == "token-classification" else {}
        teacher = kind(
            BertConfig(
                vocab_size=options.teacher_vocabulary,
                num_hidden_layers=options.teacher_layers,
                **shape,
            )
        ).eval()
        student = kind(
            BertConfig(vocab_size=options.vocabulary, num_hidden_layers=options.layers, **shape)
        ).eval()
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            sessions = exported(student, head, Path(folder))
            full = sum(p.numel() * p.element_size() for p in teacher.parameters())
            sizes = {name: session.path.stat().st_size for name, session in sessions.items()}
            print(f"\n{title}: teacher {full / 1e6:.0f} MB")
            for name, size in sizes.items():
                print(f"  {name:12} {size / 1e6:6.1f} MB, {full / size:.1f} times as small")
            for batch, length in SHAPES:
                ids = torch.randint(5, options.vocabulary, (batch, length))
                given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
                arrays = {key: value.numpy() for key, value in given.items()}
                steps = {
                    "teacher": functools.partial(teacher, **given),
                    "student": functools.partial(student, **given),
                    **{
                        f"student, {name}": functools.partial(session, arrays)
                        for name, session in sessions.items()
                    },
                }
                times = in_turns(steps, options.repeats)
                for name, values in times.items():
                    ratios = np.divide(times["teacher"], values)
                    low, high = np.quantile(ratios, [0.25, 0.75])
                    median = statistics.median(values)
                    ratio = statistics.median(times["teacher"]) / median
                    print(
                        f"  {batch} x {length:3} tokens  {name:20} {median:7.1f} ms  "
                        f"{ratio:5.2f} times as fast ({low:.2f} to {high:.2f})",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
