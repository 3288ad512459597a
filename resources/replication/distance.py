"""Print how far a student's embeddings are from its teacher's on the texts of a task.

    python resources/replication/distance.py STUDENT... --teacher FOLDER --texts FILE...

One minus the mean cosine of the embeddings of the same texts. Needs no labels, and tells students
apart that a test of 200 texts cannot. Prints JSON.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from eliquare.evaluation.embed import Encoder, of_length_1
from eliquare.evaluation.readers import read_texts
from eliquare.models.loading import load_model


def distance(student: Encoder, teacher: Encoder, texts: list[str]) -> float:
    """Return one minus the mean cosine, with the student's prompt before each text."""
    prompt = student.sentence.text_prompt
    pairs = (of_length_1(encoder.embed(texts, prompt)) for encoder in (student, teacher))
    return 1 - float(np.multiply(*pairs).sum(1).mean())


def main() -> None:
    """Measure each student."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("students", type=Path, nargs="+")
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--texts", type=Path, nargs="+", required=True)
    options = parser.parse_args()
    texts = [text for file in options.texts for text in read_texts(file)]
    teacher, *students = (
        Encoder(folder, load_model(folder, torch.float32))
        for folder in (options.teacher, *options.students)
    )
    found = {
        str(folder): round(distance(student, teacher, texts), 4)
        for folder, student in zip(options.students, students, strict=True)
    }
    print(json.dumps({"texts": len(texts), "1 - cosine": found}, indent=1))


if __name__ == "__main__":
    main()
