"""The flow before training: XML to counted, masked, packed sequences, beside a plain loop.

    python tests/benchmarks/data_flow.py [--times 1 4 16] [--cores 1 2] [--repeats 3]

Prints JSON: for so many copies of a real dump and so many cores, MB of XML a second and the peak
memory of our stages (articles, sequences, counts, masking, and the masks of one epoch), and of
WikiExtractor followed by a plain loop of tokenizing and pickling (plain_flow.py). The two sides run
in turn, bound to the same cores; the figures are medians over the repeats. Memory is the peak of
the resident sets of a side's processes together, so shared pages count in each.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from articles_memory import DATA, DUMP, repeat
from transformers import BertTokenizerFast

HERE = Path(__file__).parent
# The masks of one epoch, as a training draws them, batch by batch.
ONE_EPOCH = """
import sys
from datasets import Dataset
from eliquare.masking import Masking
from eliquare.training.order import TrainingOrder
sequences, masking, tokenizer = sys.argv[1:]
rows = Dataset.from_file(f"{sequences}/train.arrow")
order = TrainingOrder(rows, Masking.load(masking, tokenizer), 32, 1)
for start in range(0, order.per_epoch, 32):
    order.__getitems__(list(range(start, min(start + 32, order.per_epoch))))
"""


class Side:
    """Commands run one after the other on the same cores: their seconds and peak memory."""

    def __init__(self, cores: int):
        self.cores = list(range(cores))
        self.parts, self.peak = {}, 0

    @property
    def seconds(self) -> float:
        """The seconds of all parts."""
        return sum(self.parts.values())

    def run(self, part: str, *command: str | Path) -> None:
        """Run a command to its end, as a part of this name."""
        threads = str(len(self.cores))
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            preexec_fn=lambda: os.sched_setaffinity(0, self.cores),
        )
        watch = threading.Thread(target=self._watch, args=(psutil.Process(process.pid),))
        watch.start()
        _, said = process.communicate()
        self.parts[part] = time.perf_counter() - begin
        watch.join()
        if process.returncode:
            raise SystemExit(said.decode()[-2000:])

    def _watch(self, root: psutil.Process) -> None:
        while root.is_running():
            total = 0
            try:
                for process in [root, *root.children(recursive=True)]:
                    total += process.memory_info().rss
            except psutil.NoSuchProcess:
                pass
            self.peak = max(self.peak, total)
            time.sleep(0.05)


def ours(xml: Path, tokenizer: Path, folder: Path, cores: int) -> Side:
    """The stages that the workflow runs, each in a process of its own."""
    side = Side(cores)
    made = {name: folder / name for name in ("documents", "sequences", "counts", "masking")}

    def stage(name: str, **options) -> None:
        words = [word for key, value in options.items() for word in (f"--{key}", value)]
        side.run(name, "-m", f"eliquare.{name}", *words)

    stage(
        "corpus.articles",
        **{"dump": xml, "near-duplicates": "no", "processes": cores, "output": made["documents"]},
    )
    read = {"documents": made["documents"], "tokenizer": tokenizer}
    stage("corpus.sequences", **read, language="uk", threads=cores, output=made["sequences"])
    with_tokenizer = {"sequences": made["sequences"], "tokenizer": tokenizer}
    stage("corpus.counts", **with_tokenizer, output=made["counts"])
    stage("masking", **with_tokenizer, counts=made["counts"], output=made["masking"])
    side.run("masks of an epoch", "-c", ONE_EPOCH, made["sequences"], made["masking"], tokenizer)
    return side


def plain(xml: Path, tokenizer: Path, folder: Path, cores: int) -> Side:
    """WikiExtractor and the plain loop."""
    side = Side(cores)
    options = ["--dump", xml, "--tokenizer", tokenizer, "--processes", cores, "--output", folder]
    side.run("plain", HERE / "plain_flow.py", *options)
    return side


def tokenizer_folder(folder: Path) -> Path:
    """mBERT's tokenizer, from its vocabulary."""
    vocabulary = folder / "vocab.txt"
    vocabulary.write_bytes(gzip.decompress((DATA / "mbert/vocab.txt.gz").read_bytes()))
    BertTokenizerFast(str(vocabulary), do_lower_case=False).save_pretrained(folder)
    return folder


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--dump", type=Path, default=DATA / DUMP, help="a pages-articles dump")
    options.add_argument("--times", type=int, nargs="+", default=[1, 4, 16], help="copies of it")
    options.add_argument("--cores", type=int, nargs="+", default=[1, 2], help="cores to run on")
    options.add_argument("--repeats", type=int, default=3, help="the median of so many runs counts")
    arguments = options.parse_args()
    results = []
    for times in arguments.times:
        with tempfile.TemporaryDirectory() as name:
            xml, tokenizer = Path(name) / "pages.xml", Path(name) / "tokenizer"
            tokenizer.mkdir()
            tokenizer_folder(tokenizer)
            repeat(arguments.dump, times, xml)
            megabytes = xml.stat().st_size / 1e6
            for cores in arguments.cores:
                runs = {"ours": [], "plain": []}
                for _ in range(arguments.repeats):
                    for side, run in (("ours", ours), ("plain", plain)):
                        with tempfile.TemporaryDirectory() as folder:
                            runs[side].append(run(xml, tokenizer, Path(folder), cores))
                row = {"times": times, "cores": cores, "megabytes_of_xml": round(megabytes, 1)}
                for side, sides in runs.items():
                    seconds = statistics.median(each.seconds for each in sides)
                    row[side] = {
                        "megabytes_of_xml_a_second": round(megabytes / seconds, 2),
                        "seconds": round(seconds, 1),
                        "peak_megabytes": round(statistics.median(s.peak for s in sides) / 1e6),
                    }
                    parts = {part: [each.parts[part] for each in sides] for part in sides[0].parts}
                    if len(parts) > 1:
                        row[side]["seconds_of_parts"] = {
                            part: round(statistics.median(values), 1)
                            for part, values in parts.items()
                        }
                print(json.dumps(row), file=sys.stderr, flush=True)
                results.append(row)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
