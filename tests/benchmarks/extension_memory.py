r"""Peak memory and seconds of learning new tokens on 1, 4 and 16 times the same text.

    PYTHONPATH=workflow python tests/benchmarks/extension_memory.py \
        --model MODEL_FOLDER --documents DOCUMENTS_FOLDER

Prints JSON. In each copy every twentieth word is another, so that the distinct words grow with the
text as they do in a real corpus.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import zstandard

from eliquare.corpus.documents import read


def write_documents(folder: Path, texts: list[str], times: int) -> dict[str, int]:
    """Write the texts so many times; return how many words there are, and distinct ones."""
    folder.mkdir()
    words, distinct = 0, set()
    with zstandard.open(folder / "documents.jsonl.zst", "wt", encoding="utf-8") as file:
        for copy in range(times):
            for number, text in enumerate(texts):
                parts = [
                    f"{word}{copy}x" if copy and (place + number) % 20 == 0 else word
                    for place, word in enumerate(text.split())
                ]
                words += len(parts)
                distinct.update(parts)
                row = {"id": f"{copy}-{number}", "title": "", "text": " ".join(parts)}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return {"words": words, "distinct_words": len(distinct)}


def measure(*command: str | Path) -> dict[str, float]:
    """Run a module to its end; return its peak memory in MB and its seconds."""
    begin = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", *map(str, command)])
    _, status, usage = os.wait4(child.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(code)
    seconds = time.perf_counter() - begin
    return {"megabytes": round(usage.ru_maxrss / 1024), "seconds": round(seconds, 1)}


def main() -> None:
    """Extend the model on each number of copies."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--model", required=True, help="model folder to extend")
    options.add_argument("--documents", required=True, help="documents folder")
    options.add_argument("--times", type=int, nargs="+", default=[1, 4, 16], help="repetitions")
    arguments = options.parse_args()
    texts = [document.text for document in read(arguments.documents)]
    results = []
    for times in arguments.times:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            size = write_documents(folder / "documents", texts, times)
            measured = measure(
                *("eliquare", "extension", "extend", "--model", arguments.model),
                *("--documents", folder / "documents", "--output", folder / "extended"),
            )
            report = json.loads((folder / "extended/extension.json").read_text())
        new = {"new_tokens": report["tokens"]["new"]}
        results.append({"times": times} | size | new | measured)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
