"""The flow before training: XML to counted, masked, packed sequences, beside a plain loop.

    python tests/benchmarks/data_flow.py [--times 1 4 16] [--cores 1 2] [--repeats 3]

Prints JSON: for so many copies of a real dump and so many cores, MB of XML per second and the peak
memory of our stages (documents, tokenize, mask, and the masks of one epoch, each in a process of
its own), and of WikiExtractor followed by a plain loop of tokenizing and pickling (plain_flow.py).
The two sides run in turn, bound to the same cores; the figures are medians over the repeats, of
the time on the clock and of the processor's. Memory is the peak of the resident sets of a side's
processes together, so shared pages count in each.
"""

import argparse
import bz2
import contextlib
import gzip
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

HERE = Path(__file__).parent
DATA = Path(os.environ.get("ELIQUARE_DATA", HERE / "../../../shared/data"))
DUMP = "mirror/dumps.wikimedia.org/ukwiki/20230501/ukwiki-20230501-pages-articles.xml.bz2"
# The masks of one epoch, batch by batch, as a training draws them beside its steps.
ONE_EPOCH = """
import sys
from itertools import islice
from pathlib import Path
from eliquare.corpus.masking import Masking, input_ids
sequences, masking, tokenizer = sys.argv[1:]
masking = Masking.load(masking, tokenizer)
rows = enumerate(input_ids(Path(sequences) / "train.arrow"))
while batch := list(islice(rows, 32)):
    numbers, ids = zip(*batch)
    masking.draw_batch(ids, 0, numbers)
"""


def repeat(dump: Path, times: int, output: Path) -> None:
    """Write the dump's pages so many times, each copy with ids and first words of its own."""
    xml = bz2.decompress(dump.read_bytes()).decode()
    head, first, rest = xml.partition("  <page>")
    pages, end, _ = rest.rpartition("</mediawiki>")
    with output.open("w", encoding="utf-8") as file:
        file.write(head)
        for copy in range(times):
            numbered = re.sub(r"<id>(\d+)</id>", rf"<id>{copy + 1}0\1</id>", first + pages)
            file.write(re.sub(r"(<text[^>]*[^/]>)", rf"\1Copy {copy}. ", numbered))
        file.write(end + "\n")


class Side:
    """Commands run one after the other on the same cores: their seconds and peak memory."""

    def __init__(self, cores: int):
        self.cores = list(range(cores))
        self.parts: dict[str, float] = {}
        self.peak = 0
        self.processor_seconds = 0.0

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
            ["taskset", "-c", ",".join(map(str, self.cores)), sys.executable, *map(str, command)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
        )
        watch = threading.Thread(target=self._watch, args=(psutil.Process(process.pid),))
        watch.start()
        _, said = process.communicate()
        self.parts[part] = time.perf_counter() - begin
        watch.join()
        if process.returncode:
            raise SystemExit(said.decode()[-2000:])

    def _watch(self, root: psutil.Process) -> None:
        # The system counts no child that was killed with its parent, as WikiExtractor's are.
        seconds: dict[psutil.Process, float] = {}
        while root.is_running():
            total = 0
            with contextlib.suppress(psutil.Error):
                for process in [root, *root.children(recursive=True)]:
                    total += process.memory_info().rss
                    times = process.cpu_times()
                    seconds[process] = times.user + times.system
            self.peak = max(self.peak, total)
            time.sleep(0.05)
        self.processor_seconds += sum(seconds.values())


def ours(xml: Path, tokenizer: Path, folder: Path, cores: int) -> Side:
    """The stages that the workflow runs, each in a process of its own."""
    side = Side(cores)
    made = {name: folder / name for name in ("documents", "sequences", "counts", "masking")}
    room = ("-m", "eliquare", "corpus")
    side.run(
        "documents",
        *(*room, "documents", "--dump", xml, "--no-near-duplicates", "--processes", cores),
        *("--output", made["documents"]),
    )
    side.run(
        "tokenize",
        *(*room, "tokenize", "--documents", made["documents"], "--tokenizer", tokenizer),
        *("--language", "uk", "--threads", cores),
        *("--output", made["sequences"], "--counts", made["counts"]),
    )
    side.run(
        "mask",
        *(*room, "mask", "--sequences", made["sequences"], "--counts", made["counts"]),
        *("--tokenizer", tokenizer, "--output", made["masking"]),
    )
    side.run("masks of an epoch", "-c", ONE_EPOCH, made["sequences"], made["masking"], tokenizer)
    return side


def plain(xml: Path, tokenizer: Path, folder: Path, cores: int) -> Side:
    """WikiExtractor and the plain loop."""
    side = Side(cores)
    options = ["--dump", xml, "--tokenizer", tokenizer, "--processes", cores, "--output", folder]
    side.run("plain", HERE / "plain_flow.py", *options)
    return side


def tokenizer_folder(folder: Path) -> Path:
    """MBERT's tokenizer, from its vocabulary."""
    from transformers import BertTokenizerFast

    words = gzip.decompress((DATA / "mbert/vocab.txt.gz").read_bytes()).decode().split()
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = BertTokenizerFast(vocab=vocabulary, do_lower_case=False)
    tokenizer.save_pretrained(folder)
    return folder


def main() -> None:
    """Measure both sides for each number of copies and cores."""
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
                        "megabytes_of_xml_per_second": round(megabytes / seconds, 2),
                        "seconds": round(seconds, 1),
                        "processor_seconds": round(
                            statistics.median(each.processor_seconds for each in sides), 1
                        ),
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
