"""The flow before training as DistilBERT's published scripts have it, after WikiExtractor.

    python tests/benchmarks/plain_flow.py --dump PAGES.xml --tokenizer FOLDER --output FOLDER

WikiExtractor writes its files; then each line is tokenized by itself, all of them are kept in one
list and pickled, and a second pass counts the sub-words (binarized_data.py and token_counts.py of
the research project). data_flow.py times it beside ours.
"""

import argparse
import json
import pickle
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--dump", required=True, type=Path)
    options.add_argument("--tokenizer", required=True, type=Path)
    options.add_argument("--processes", default="1", help="of WikiExtractor")
    options.add_argument("--output", required=True, type=Path)
    arguments = options.parse_args()
    extracted = arguments.output / "extracted"
    command = [sys.executable, "-m", "wikiextractor.WikiExtractor", str(arguments.dump), "--json"]
    command += ["-q", "--no-templates", "--processes", arguments.processes, "-o", str(extracted)]
    subprocess.run(command, check=True)
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    first, last = tokenizer.cls_token, tokenizer.sep_token
    sequences = []
    for path in sorted(extracted.glob("*/wiki_*")):
        with path.open(encoding="utf-8") as file:
            for row in file:
                for line in json.loads(row)["text"].splitlines():
                    if line.strip():
                        text = f"{first} {line.strip()} {last}"
                        sequences.append(tokenizer.encode(text, add_special_tokens=False))
    arrays = [np.int32(sequence) for sequence in sequences]
    random.Random(1).shuffle(arrays)
    with (arguments.output / "sequences.pickle").open("wb") as file:
        pickle.dump(arrays, file, protocol=pickle.HIGHEST_PROTOCOL)
    with (arguments.output / "sequences.pickle").open("rb") as file:
        data = pickle.load(file)
    counter = Counter()
    for sequence in data:
        counter.update(sequence.tolist())
    counts = [counter[number] for number in range(len(tokenizer))]
    with (arguments.output / "counts.pickle").open("wb") as file:
        pickle.dump(counts, file)
    print(sum(counts))


if __name__ == "__main__":
    main()
