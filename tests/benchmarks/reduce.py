"""Time and memory of reducing an mBERT-shaped model to a language, its verification included.

    python tests/benchmarks/reduce.py --data ../shared/data

The model has the 106,004 real tokens of mbert/vocab.txt.gz, hidden size 768 and 12 layers, with
random weights. The vocabulary holds the tokens of 0.05% of the sentences of Swahili prose, and the
characters of that text. Prints JSON. The seconds are those of one command from start to exit, with
Python's own start: reading, reducing and writing; and, in the second run, comparing both models on
sentences of the prose.
"""

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

SHARE_OF_SENTENCES = 0.0005


def make_model(data: Path, folder: Path) -> None:
    """Write an mBERT-shaped model and its tokenizer."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    with gzip.open(data / "mbert" / "vocab.txt.gz", "rt", encoding="utf-8") as file:
        words = [word for word in file.read().split("\n") if word]
    vocabulary = {word: number for number, word in enumerate(words)}
    BertTokenizerFast(
        vocab=vocabulary, do_lower_case=False, strip_accents=False, model_max_length=512
    ).save_pretrained(folder)
    BertForMaskedLM(BertConfig(vocab_size=len(words))).save_pretrained(folder)


def write_kept(model: Path, text: list[str], path: Path) -> int:
    """Write a plain list of the tokens to keep; return how many."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    vocabulary = tokenizer.get_vocab()
    counts = Counter()
    for ids in tokenizer(text, add_special_tokens=False, truncation=True)["input_ids"]:
        counts.update(set(ids))
    often = {i for i, number in counts.items() if number >= SHARE_OF_SENTENCES * len(text)}
    kept = set(tokenizer.convert_ids_to_tokens(sorted(often)))
    characters = {character for line in text for character in line}
    kept |= {form for c in characters for form in (c, f"##{c}") if form in vocabulary}
    kept |= set(tokenizer.all_special_tokens)
    path.write_text("\n".join(sorted(kept, key=vocabulary.get)), encoding="utf-8")
    return len(kept)


def main() -> None:
    """Make what is needed, run the command, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--folder", type=Path, help="where the model is made, and kept for next time"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with gzip.open(arguments.data / "text" / "sw" / "voa.txt.gz", "rt") as file:
            text = [line.strip() for line in file if line.strip()]
        (folder / "text.txt").write_text("\n".join(text), encoding="utf-8")
        if not (folder / "model").exists():
            # In a process of its own, whose memory does not count.
            child = os.fork()
            if child == 0:
                make_model(arguments.data, folder / "model")
                os._exit(0)
            os.waitpid(child, 0)
        child = os.fork()
        if child == 0:
            write_kept(folder / "model", text, folder / "kept.txt")
            os._exit(0)
        os.waitpid(child, 0)
        command = [sys.executable, "-m", "eliquare", "vocabulary", "reduce"]
        command += ["--model", folder / "model", "--vocabulary", folder / "kept.txt"]
        command += ["--output", folder / "new"]
        print(
            json.dumps(
                {
                    "reduced": figures(folder, *timed(command)),
                    "reduced_and_verified": figures(
                        folder, *timed([*command, "--sample", folder / "text.txt"])
                    ),
                },
                indent=2,
            )
        )


def timed(command: list) -> tuple[float, resource.struct_rusage]:
    """Return seconds and use of resources of a command, which must succeed."""
    started = time.monotonic()
    process = subprocess.Popen(list(map(str, command)))
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit("the command failed")
    return time.monotonic() - started, usage


def figures(folder: Path, seconds: float, usage: resource.struct_rusage) -> dict:
    """Return the time and memory of the command, beside the size of the model."""
    provenance = json.loads((folder / "new" / "provenance.json").read_text())["settings"]
    model_bytes = (folder / "model" / "model.safetensors").stat().st_size
    return {
        "tokens_before": provenance["of"],
        "tokens_after": provenance["tokens"],
        "seconds": round(seconds, 2),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_megabytes": round(usage.ru_maxrss * 1024 / 1e6, 1),
        "model_megabytes": round(model_bytes / 1e6, 1),
        "peak_over_model": round(usage.ru_maxrss * 1024 / model_bytes, 3),
    }


if __name__ == "__main__":
    main()
