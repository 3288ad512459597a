"""Compare a student of a sentence encoder, in float32 and int8, with its teacher: topics and speed.

    python resources/replication/int8.py --teacher FOLDER --student FOLDER --text TEXT
        --topics FOLDER

The student is exported as `eliquare export onnx` does, calibrated on the text; topics are those of
SIB-200 (train.tsv, dev.tsv, test.tsv) by logistic regression on the embeddings. Each model embeds
the same test texts, one by one and in batches of 32, on one thread, in turns, from words to
embedding. Prints JSON: macro-F1, bytes, and milliseconds per text (medians over the turns).
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel

from eliquare.config.tasks import TaskData
from eliquare.corpus.documents import sample_texts
from eliquare.evaluation import data
from eliquare.evaluation.embed import Embeddings, Encoder, topics
from eliquare.export import onnx
from eliquare.io import processor_name
from eliquare.models.loading import load_fast_tokenizer
from eliquare.models.sentence import Sentence, read_sentence

CALIBRATION_TEXTS, BATCH = 200, 32
NAMES = ["input_ids", "attention_mask"]


class Exported:
    """A student that ONNX Runtime runs."""

    def __init__(self, student: Path, session: onnx.Session) -> None:
        self.session, self.tokenizer = session, load_fast_tokenizer(student)
        self.sentence = read_sentence(student) or Sentence("mean")

    def embed(self, texts: Sequence[str], prompt: str = "") -> Embeddings:
        """Return the embeddings ``[texts, width]``."""
        given = [prompt + text for text in texts]
        found = [
            self.sentence.pool(
                torch.from_numpy(self.session(batch)), torch.from_numpy(batch["attention_mask"])
            ).numpy()
            for batch in onnx.batches_of(self.tokenizer, given, 512)
        ]
        return np.concatenate(found)


def exported(student: Path, text: Path, folder: Path) -> dict[str, onnx.Session]:
    """Return the sessions of a student in float32 and in int8."""
    texts = list(sample_texts(text, CALIBRATION_TEXTS))
    batches = list(onnx.batches_of(load_fast_tokenizer(student), texts, 128))
    model, head = onnx.load_exported(student, "feature-extraction")
    onnx.write_graph(model, head, NAMES, batches[0], folder / onnx.FLOAT)
    session = onnx.Session(folder / onnx.FLOAT)
    _, int8 = next(iter(onnx.quantized(session, folder, batches)))
    return {"ONNX float32": session, "int8": onnx.Session(int8)}


def main() -> None:
    """Measure all forms."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="one text per line")
    parser.add_argument("--topics", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    files = {"train": "train", "validation": "dev", "test": "test"}
    given = {name: str(options.topics / f"{file}.tsv") for name, file in files.items()}
    splits = data.load(
        TaskData(kind="classification", language="und", label_column="category", **given)
    )
    with tempfile.TemporaryDirectory() as name:
        sessions = exported(options.student, options.text, Path(name))
        forms: dict[str, Encoder | Exported] = {
            label: Encoder(folder, AutoModel.from_pretrained(folder))
            for label, folder in (("teacher", options.teacher), ("student", options.student))
        }
        forms |= {label: Exported(options.student, each) for label, each in sessions.items()}
        report: dict[str, dict[str, Any]] = {
            label: {"macro_f1": scores(form, splits)} for label, form in forms.items()
        }
        for label, session in sessions.items():
            report[label]["megabytes"] = round(session.path.stat().st_size / 1e6, 1)
        for label, milliseconds in in_turns(forms, splits, options.repeats).items():
            report[label] |= milliseconds
    print(json.dumps({"processor": processor_name(), "forms": report}, indent=1))


def scores(form: Encoder | Exported, splits: data.Splits) -> dict[str, float]:
    """Return the macro-F1 of topics on validation and test."""
    found = topics(form, splits)
    return {split: round(found[split]["macro_f1"], 4) for split in ("validation", "test")}


def in_turns(
    forms: dict[str, Encoder | Exported], splits: data.Splits, repeats: int
) -> dict[str, dict[str, float]]:
    """Return milliseconds per test text, one by one and in batches, by form."""
    texts = [each.texts[0] for each in splits.test][: 3 * BATCH]
    found: dict[str, dict[str, list[float]]] = {label: {} for label in forms}
    for size in (1, BATCH):
        for turn in range(repeats + 1):
            for label, form in forms.items():
                begun = time.perf_counter()
                for start in range(0, len(texts), size):
                    form.embed(texts[start : start + size], form.sentence.text_prompt)
                if turn:
                    took = 1000 * (time.perf_counter() - begun) / len(texts)
                    found[label].setdefault(f"ms_per_text_batch_{size}", []).append(took)
    return {
        label: {key: round(statistics.median(each), 2) for key, each in times.items()}
        for label, times in found.items()
    }


if __name__ == "__main__":
    main()
