"""The text of dumps, of this checkout and of another one: words kept, markup left, time.

    python tests/benchmarks/text_of_dumps.py --before CHECKOUT [--dumps DUMP ...] [--processes 1]

Prints JSON: for each dump and checkout, documents, words, documents with residues of markup per
thousand (in all, and of each kind), seconds on the clock and of the processor with all child
processes. The checkouts run in turn; --repeats gives medians. Near-duplicates stay, so that the
words of both can be compared.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import regex

from eliquare.corpus import documents

HERE = Path(__file__).parent
DATA = Path(os.environ.get("ELIQUARE_DATA", HERE / "../../../shared/data"))
WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
RESIDUES = {
    kind: regex.compile(pattern, regex.MULTILINE)
    for kind, pattern in {
        "tags": r"</?[A-Za-z][^<>\n]{0,200}>",
        "templates": r"\{\{|\}\}",
        "links": r"\[\[|\]\]|\[(?:https?:)?//",
        "tables": r"^\s*(?:\{\||\|)|\|\}",
        "attributes": r"\b(?:style|class|align|colspan|rowspan|bgcolor|width)\s*=\s*[\"'\d]",
        "headings": r"^==+|==+$",
        "list marks": r"^[*#;]",
        "apostrophes": r"''",
        "conversion": r"-\{|\}-",
        "entities": r"&(?:#\d+|#x[0-9a-f]+|[a-zA-Z]+);",
        "switches": r"__\p{Lu}+__",
        "placeholders": r"formula_\d|codice_\d",
        "private use": "[\U000f0000-\U000ffffd]",
    }.items()
}


def run(checkout: Path, dump: Path, processes: int, output: Path) -> tuple[float, float]:
    """Make the documents of a dump; return seconds on the clock and of all its processes."""
    options = ["--dump", dump, "--no-near-duplicates", "--processes", processes, "--output", output]
    command = [sys.executable, "-m", "eliquare", "corpus", "documents", *map(str, options)]
    environment = os.environ | {"PYTHONPATH": str(checkout / "workflow"), "OMP_NUM_THREADS": "1"}
    begin = time.perf_counter()
    processor: dict[int, float] = {}
    known: dict[int, psutil.Process] = {}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as stage:
        root = psutil.Process(stage.pid)
        while stage.poll() is None:
            try:
                known |= {each.pid: each for each in [root, *root.children(recursive=True)]}
                for pid, process in known.items():
                    if process.is_running():
                        times = process.cpu_times()
                        processor[pid] = times.user + times.system
            except psutil.Error:
                pass
            time.sleep(0.05)
    if stage.returncode:
        raise SystemExit(f"{checkout}: exit code {stage.returncode}")
    return time.perf_counter() - begin, sum(processor.values())


def measures(folder: Path) -> dict[str, object]:
    """Count documents, words and residues."""
    texts = [document.text for document in documents.read(folder)]
    found = [[kind for kind, residue in RESIDUES.items() if residue.search(t)] for t in texts]
    per_thousand = {
        kind: round(1000 * sum(kind in kinds for kinds in found) / len(texts), 1)
        for kind in RESIDUES
    }
    return {
        "documents": len(texts),
        "words": sum(len(WORD.findall(text)) for text in texts),
        "with_residues_per_thousand": round(1000 * sum(map(bool, found)) / len(texts), 1),
        "kinds": {kind: number for kind, number in per_thousand.items() if number},
    }


def main() -> None:
    """Measure each dump with each checkout."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--before", type=Path, help="another checkout of the project")
    parser.add_argument("--dumps", type=Path, nargs="+", help="by default those of ELIQUARE_DATA")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    checkouts = {"before": options.before, "now": HERE.parent.parent}
    results: dict[str, dict[str, object]] = {}
    for dump in options.dumps or sorted(DATA.glob("mirror/*/*/*/*-pages-articles.xml.bz2")):
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in checkouts}
        results[dump.name] = {}
        for _ in range(options.repeats):
            for name, checkout in checkouts.items():
                if checkout is None:
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    output = Path(folder) / "documents"
                    times[name].append(run(checkout, dump, options.processes, output))
                    clock, processor = map(statistics.median, zip(*times[name], strict=True))
                    results[dump.name][name] = measures(output) | {
                        "seconds": round(clock, 1),
                        "processor_seconds": round(processor, 1),
                    }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
