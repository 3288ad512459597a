"""Tokens of mBERT that each threshold keeps for a language, and the size of a 6-layer student.

    python tests/benchmarks/kept_by_language.py --data ../shared/data

From the line counts that the authors of the first reduction tool published (Wikipedias of 2018; 106
thousand of mBERT's tokens). They do not say how many lines there were: the lines of the most
frequent token stand in for it, so the true numbers are at most those printed. Special tokens stay,
tokens above the threshold, and every character of a token that occurs. Prints the table as
Markdown.
"""

import argparse
import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
from tabulate import tabulate
from transformers import BertConfig, BertTokenizerFast

from eliquare.config.model import SelectionRule
from eliquare.corpus.counts import Counts
from eliquare.models.loading import parameter_count
from eliquare.vocabulary.select import Corpus, select_tokens

LANGUAGES = {"sw": "Swahili", "hi": "Hindi", "nl": "Dutch", "fr": "French"}
# electronics2023; a fifth of it; a tenth, the code of Abdaoui et al. that the paper cites.
THRESHOLDS = [0.0005, 0.0001, 0.00005]
PUBLISHED_MILLIONS = 66


def read_text(path: Path) -> str:
    """Read a compressed text file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.read()


def kept_numbers(data: Path, code: str) -> dict[float, int]:
    """Return how many tokens each threshold keeps for a language."""
    tokens = [line for line in read_text(data / "mbert" / "vocab.txt.gz").split("\n") if line]
    lines = json.loads(read_text(data / "mbert" / f"{code}_line_counts.json.gz"))
    numbers = np.array([lines.get(token, 0) for token in tokens], dtype=np.int64)
    most = int(numbers.max())
    corpus = Corpus(Counts(tokens, numbers, numbers, numbers, most, most), [])
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = {token: index for index, token in enumerate(tokens)}
        BertTokenizerFast(vocab=vocabulary, do_lower_case=False).save_pretrained(folder)
        return {
            threshold: len(
                select_tokens(folder, [corpus], SelectionRule(min_sentence_fraction=threshold))
            )
            for threshold in THRESHOLDS
        }


def student_parameters(tokens: int) -> int:
    """Count the parameters of a 6-layer student of mBERT's width, with its MLM head (tied)."""
    return parameter_count(BertConfig(vocab_size=tokens, num_hidden_layers=6))


def table(data: Path) -> str:
    """Return the table as Markdown."""
    rows = [
        [
            name,
            f"{threshold:.3%}",
            f"{number:,}",
            f"{student_parameters(number) / 1e6:.1f}",
            PUBLISHED_MILLIONS,
        ]
        for code, name in LANGUAGES.items()
        for threshold, number in kept_numbers(data, code).items()
    ]
    headers = ["language", "share of lines", "tokens kept", "6 layers (M)", "the papers (M)"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    print(table(parser.parse_args().data))


if __name__ == "__main__":
    main()
