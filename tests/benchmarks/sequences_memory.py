"""Peak memory and seconds of sequences and counts on 1, 4 and 16 times the same real text.

    python tests/benchmarks/sequences_memory.py --tokenizer MODEL_FOLDER [--dump DUMP.xml.bz2]

Prints JSON. Each stage runs in a process of its own; its memory is the peak of its resident set.
The text is that of a dump, wiki markup and all; a repeated document differs by its first line.
"""

import argparse
import bz2
import html
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import zstandard

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("ELIQUARE_DATA", ROOT / "../shared/data"))
DUMP = "mirror/dumps.wikimedia.org/ukwiki/20230501/ukwiki-20230501-pages-articles.xml.bz2"

# Runs a module in a fresh process and prints the peak of its resident set, in kB on Linux.
CHILD = (
    "import resource, runpy, sys\n"
    "sys.argv = sys.argv[1:]\n"
    "try:\n"
    "    runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
    "except SystemExit as stop:\n"
    "    if stop.code: raise\n"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
)


def write_documents(folder: Path, texts: list[str], times: int) -> int:
    """Write the texts so many times as distinct documents; return the characters."""
    folder.mkdir()
    characters = 0
    with zstandard.open(folder / "documents.jsonl.zst", "wt", encoding="utf-8") as file:
        for copy in range(times):
            for number, text in enumerate(texts):
                row = {"id": f"{copy}-{number}", "title": "", "text": f"{copy}\n{text}"}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                characters += len(row["text"])
    return characters


def measure(*command: str | Path) -> dict[str, float]:
    """Run a stage; return its peak memory in MB and its seconds."""
    begin = time.perf_counter()
    output = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, command)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    seconds = time.perf_counter() - begin
    return {"megabytes": round(int(output) / 1024), "seconds": round(seconds, 1)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--tokenizer", required=True, help="model folder with a tokenizer")
    options.add_argument("--dump", type=Path, default=DATA / DUMP, help="a pages-articles dump")
    options.add_argument("--language", default="uk", help="its language code")
    options.add_argument("--threads", default=str(os.cpu_count()), help="threads that tokenize")
    options.add_argument("--times", type=int, nargs="+", default=[1, 4, 16], help="repetitions")
    arguments = options.parse_args()
    with bz2.open(arguments.dump, "rt", encoding="utf-8") as file:
        found = re.findall(r"<text[^>]*>(.*?)</text>", file.read(), re.DOTALL)
    texts = [html.unescape(text) for text in found]
    results = []
    for times in arguments.times:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            characters = write_documents(folder / "documents", texts, times)
            with_tokenizer = ("--tokenizer", arguments.tokenizer)
            cut = measure(
                "eliquare.corpus.sequences",
                *("--documents", folder / "documents", *with_tokenizer),
                *("--language", arguments.language, "--threads", arguments.threads),
                *("--output", folder / "sequences"),
            )
            counted = measure(
                "eliquare.corpus.counts",
                *("--sequences", folder / "sequences", *with_tokenizer),
                *("--output", folder / "counts"),
            )
            totals = json.loads((folder / "counts/totals.json").read_text())
        results.append(
            {"times": times, "characters": characters, "tokens": totals["tokens"]}
            | {"sequences": cut, "counts": counted}
        )
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
