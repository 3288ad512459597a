"""Peak memory and seconds of learning new sub-words on 1, 4 and 16 times the same real text.

    python tests/benchmarks/amplify_memory.py --model MODEL_FOLDER

Prints JSON. The text is the Swahili prose of the shared data; in each copy every twentieth word is
another, so that the distinct words grow with the text as they do in a real corpus.
"""

import argparse
import gzip
import json
import tempfile
from pathlib import Path

import zstandard
from sequences_memory import DATA, measure


def write_documents(folder: Path, lines: list[str], times: int) -> dict[str, int]:
    """Write the lines so many times; return how many words there are, and distinct ones."""
    folder.mkdir()
    words, distinct = 0, set()
    with zstandard.open(folder / "documents.jsonl.zst", "wt", encoding="utf-8") as file:
        for copy in range(times):
            for number, line in enumerate(lines):
                parts = [
                    f"{word}{copy}x" if copy and (place + number) % 20 == 0 else word
                    for place, word in enumerate(line.split())
                ]
                words += len(parts)
                distinct.update(parts)
                row = {"id": f"{copy}-{number}", "title": "", "text": " ".join(parts)}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    (folder / "report.json").write_text(json.dumps({"documents": times * len(lines)}))
    return {"words": words, "distinct": len(distinct)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--model", required=True, help="model folder to amplify")
    options.add_argument("--times", type=int, nargs="+", default=[1, 4, 16], help="repetitions")
    arguments = options.parse_args()
    lines = []
    for name in ("lafand", "voa"):
        with gzip.open(DATA / f"text/sw/{name}.txt.gz", "rt", encoding="utf-8") as file:
            lines += file.read().splitlines()
    results = []
    for times in arguments.times:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            size = write_documents(folder / "documents", lines, times)
            measured = measure(
                "eliquare.vocabulary.amplify",
                *("--model", arguments.model, "--documents", folder / "documents"),
                *("--output", folder / "amplified"),
            )
            report = json.loads((folder / "amplified/amplification.json").read_text())
        new = {"new_sub_words": report["sub_words"]["new"]}
        results.append({"times": times} | size | new | measured)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
