"""Peak memory and seconds of the articles stage on 1, 4 and 16 times the same real dump.

    python tests/benchmarks/articles_memory.py [--dump DUMP.xml.bz2] [--processes 2]

Prints JSON. Memory is the peak of the resident sets of the stage and its child processes together,
polled ten times a second; pages that processes share count in each, so it errs upwards. The copies
have ids and first words of their own, so that every one of them is written.
"""

import argparse
import bz2
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("ELIQUARE_DATA", ROOT / "../shared/data"))
DUMP = "mirror/dumps.wikimedia.org/ukwiki/20230501/ukwiki-20230501-pages-articles.xml.bz2"


def repeat(dump: Path, times: int, output: Path) -> int:
    """Write the dump's pages so many times, each copy with its own ids; return the XML's bytes."""
    xml = bz2.decompress(dump.read_bytes()).decode()
    head, first, rest = xml.partition("  <page>")
    pages, end, _ = rest.rpartition("</mediawiki>")
    size = 0
    with output.open("w", encoding="utf-8") as file:
        size += file.write(head)
        for copy in range(times):
            numbered = re.sub(r"<id>(\d+)</id>", rf"<id>{copy + 1}0\1</id>", first + pages)
            size += file.write(re.sub(r"(<text[^>]*[^/]>)", rf"\1Copy {copy}. ", numbered))
        file.write(end + "\n")
    return size


def measure(dump: Path, output: Path, processes: int) -> dict[str, float]:
    """Run the stage; its peak memory in MB with its children, its seconds, the documents kept."""
    command = [sys.executable, "-m", "eliquare.corpus.articles", "--dump", str(dump)]
    command += ["--output", str(output), "--near-duplicates", "no", "--processes", str(processes)]
    begin, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
        root = psutil.Process(child.pid)
        while child.poll() is None:
            total = 0
            for process in [root, *root.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak = max(peak, total)
            time.sleep(0.1)
    if child.returncode:
        raise SystemExit(f"the stage ended with {child.returncode}")
    report = json.loads((output / "report.json").read_text())
    return {
        "megabytes": round(peak / 1e6),
        "seconds": round(time.perf_counter() - begin, 1),
        "documents": report["documents"],
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--dump", type=Path, default=DATA / DUMP, help="a pages-articles dump")
    options.add_argument("--processes", type=int, default=2, help="of WikiExtractor and the filter")
    options.add_argument("--times", type=int, nargs="+", default=[1, 4, 16], help="repetitions")
    arguments = options.parse_args()
    results = []
    for times in arguments.times:
        with tempfile.TemporaryDirectory() as name:
            repeated = Path(name) / "pages.xml"
            size = repeat(arguments.dump, times, repeated)
            measured = measure(repeated, Path(name) / "documents", arguments.processes)
        results.append({"times": times, "characters_of_xml": size} | measured)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
