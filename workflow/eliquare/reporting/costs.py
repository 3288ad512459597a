"""What the results of an experiment cost: by step and by system, from what each stage wrote down.

The cost of a result is that of the attempt that made it and of those that failed or stopped early
since the one before; what was taken from an output cache cost nothing.
"""

import json
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eliquare.reporting.formats import Cell, Table, number, text
from eliquare.reporting.results import Experiment

HOUR = 3600
# Stages in the words of the report, in its order; any other is named by its module.
STEPS = {
    "eliquare.demo.world": "Invented languages",
    "eliquare.corpus.dump": "Downloads",
    "eliquare.models.fetch": "Downloads",
    "eliquare.corpus.articles": "Documents",
    "eliquare.corpus.text": "Documents",
    "eliquare.corpus.dataset": "Documents",
    "eliquare.corpus.mixture": "Documents",
    "eliquare.models.tokenizer": "Tokenizers of teachers",
    "eliquare.corpus.sequences": "Sequences",
    "eliquare.corpus.paired": "Sequences",
    "eliquare.corpus.counts": "Counts",
    "eliquare.masking": "Masking",
    "eliquare.models.mlm": "Training of teachers",
    "eliquare.vocabulary.select": "Vocabularies",
    "eliquare.vocabulary.reduce": "Vocabularies",
    "eliquare.vocabulary.amplify": "Vocabularies",
    "eliquare.vocabulary.verify": "Vocabularies",
    "eliquare.vocabulary.report": "Vocabularies",
    "eliquare.vocabulary.amplified_report": "Vocabularies",
    "eliquare.smoke": "Recipes tried",
    "eliquare.models.student": "Students at their start",
    "eliquare.distillation.training": "Distillation",
    "eliquare.distillation.paired": "Distillation",
    "eliquare.tasks.finetune": "Fine-tuning",
    "eliquare.measure": "Measuring",
    "eliquare.reporting.tables": "Tables, plots, cards",
    "eliquare.reporting.plots": "Tables, plots, cards",
    "eliquare.reporting.release": "Tables, plots, cards",
    "eliquare.reporting.report": "Tables, plots, cards",
}
SHARED = "Texts, vocabularies, teachers (shared)"


@dataclass
class Spent:
    """Sums over attempts; ``joules`` where the cluster told them."""

    results: int = 0
    attempts: int = 0
    killed: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    joules: float = 0.0

    def add(self, attempts: Iterable[dict[str, Any]], energy: dict[str, float]) -> None:
        """Add the attempts at one result."""
        self.results += 1
        for attempt in attempts:
            self.attempts += 1
            if "seconds" not in attempt:
                self.killed += 1
                continue
            self.seconds += attempt["seconds"]
            self.cpu_seconds += attempt["cpu_seconds"]
            self.gpu_seconds += attempt["seconds"] * attempt["gpus"]
            self.joules += energy.get(attempt["attempt"], 0.0)


def attempts_in(file: Path) -> list[dict[str, Any]]:
    """The attempts that led to what is there; one without ``seconds`` was killed or still runs."""
    found: dict[str, dict[str, Any]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            attempt = json.loads(line)
            found[attempt["attempt"]] = attempt
        except (json.JSONDecodeError, KeyError):
            # A line that was cut off by a kill or a full disk.
            continue
    attempts = list(found.values())
    done = [place for place, attempt in enumerate(attempts) if attempt.get("done")]
    if not done:
        return attempts
    first = done[-2] + 1 if len(done) > 1 else 0
    return attempts[first : done[-1] + 1]


class Owners:
    """Whose cost a result is, by its path below ``results``."""

    def __init__(self, experiment: Experiment):
        layout, settings = experiment.layout, experiment.settings
        self.name, self.has_world = experiment.name, "world" in settings
        self.trained = set(layout.distillations())
        self.pairs = {(system, language) for language, system in layout.pairs()}
        self.runs = set(layout.runs())
        self.systems = set(experiment.systems)
        taught = {experiment.teacher(student) for student in experiment.students}
        cut = {settings["systems"].get(name, {}).get("teacher") for name in self.systems}
        teachers = {name for name in taught | cut | self.systems if name in settings["teachers"]}
        self.teachers = teachers | {layout.root(name) for name in teachers}
        pretrained = {settings["teachers"][name].get("corpus") for name in self.teachers}
        corpora = {*experiment.languages, *(corpus for _, corpus in self.trained), *pretrained}
        members = (settings.get("mixtures", {}).get(corpus, []) for corpus in corpora)
        self.corpora = corpora.union(*members)
        self.dumps = {
            f"{layout.wiki(code)}-{entry['date']}-pages-articles"
            for code in self.corpora & settings["languages"].keys()
            if (entry := settings["languages"][code]["corpus"])["source"] == "dump"
        }

    def of(self, parts: tuple[str, ...]) -> str | None:
        """A system, SHARED, or None for what is another experiment's."""
        match parts:
            case ("students", student, corpus, _):
                return student if (student, corpus) in self.trained | self.pairs else None
            case ("smoke", name):
                student_and_corpus = name.rpartition("-")[0]
                found = (pair[0] for pair in self.trained if "-".join(pair) == student_and_corpus)
                return next(found, None)
            case ("smoke", "teachers", name):
                tried = name.rpartition("-")[0]
                return SHARED if any(tried.startswith(f"{t}-") for t in self.teachers) else None
            case ("finetuned", task, system, seed):
                seed = int(seed.removeprefix("seed-"))
                return system if (task, system, seed) in self.runs else None
            case ("measured", language, system):
                system = system.removesuffix(".json")
                return system if (system, language) in self.pairs else None
            case ("demo",):
                return SHARED if self.has_world else None
            case ("dumps", name):
                return SHARED if name.partition(".")[0] in self.dumps else None
            case ("corpora" | "teachers" | "systems" as kind, name, *_):
                return SHARED if name in getattr(self, kind) else None
        return SHARED if parts[0] == self.name else None


@dataclass
class Costs:
    """Sums by step, by system and for all."""

    by_step: dict[str, Spent]
    by_system: dict[str, Spent]
    total: Spent


def read(experiment: Experiment) -> Costs:
    """Add up what was written down of the results of an experiment."""
    folder, owners = experiment.layout.results / "costs", Owners(experiment)
    found = []
    for file in sorted(folder.rglob("*.jsonl")):
        relative = file.relative_to(folder)
        name = relative.name.removesuffix(".jsonl").partition(".process-")[0]
        owner = owners.of((*relative.parts[:-1], name))
        if owner and (attempts := attempts_in(file)):
            found.append((owner, attempts))
    energy = energy_of(attempt for _, attempts in found for attempt in attempts)
    costs = Costs(defaultdict(Spent), defaultdict(Spent), Spent())
    for owner, attempts in found:
        stage = attempts[-1]["stage"]
        step = STEPS.get(stage, stage.rpartition(".")[2])
        for spent in (costs.by_step[step], costs.by_system[owner], costs.total):
            spent.add(attempts, energy)
    return costs


def energy_of(attempts: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Joules of each attempt, as Slurm's accounting tells; empty where it does not.

    A job's energy is shared out by time among the attempts that it held.
    """
    jobs = defaultdict(list)
    for attempt in attempts:
        if attempt.get("job") and "seconds" in attempt:
            jobs[attempt["job"]].append(attempt)
    joules = dict(energy_of_jobs(list(jobs))) if jobs else {}
    shared = {}
    for job, held in jobs.items():
        seconds = sum(attempt["seconds"] for attempt in held)
        for attempt in held:
            shared[attempt["attempt"]] = joules.get(job, 0.0) * attempt["seconds"] / seconds
    return shared


def energy_of_jobs(jobs: list[str]) -> Iterator[tuple[str, float]]:
    """(job, joules) of each job that Slurm's accounting knows an energy of."""
    if shutil.which("sacct") is None:
        return
    for first in range(0, len(jobs), 500):
        command = ["sacct", "--noheader", "--parsable2", "--format=JobIDRaw,ConsumedEnergyRaw"]
        command += ["--jobs", ",".join(jobs[first : first + 500])]
        try:
            told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            return
        yield from most_of_each_job(told.stdout)


def most_of_each_job(printed: str) -> Iterator[tuple[str, float]]:
    """The largest figure of each job's steps: they run at once, and each counts the whole node."""
    most: dict[str, float] = {}
    for line in printed.splitlines():
        step, _, joules = line.partition("|")
        # Slurm writes 2^64 - 2 where it has no value.
        if joules.isdigit() and 0 < int(joules) < 2**63:
            job = step.partition(".")[0]
            most[job] = max(most.get(job, 0.0), float(joules))
    yield from most.items()


def tables(experiment: Experiment) -> list[Table]:
    """What the run cost, by step and by system; empty where nothing was written down."""
    costs = read(experiment)
    if not costs.total.attempts:
        return []
    order = list(dict.fromkeys(STEPS.values()))
    steps = sorted(costs.by_step, key=[*order, *costs.by_step].index)
    first = [name for name in experiment.systems if name in costs.by_system]
    others = [name for name in costs.by_system if name not in first and name != SHARED]
    systems = first + others + [SHARED] * (SHARED in costs.by_system)
    labels = {name: experiment.label(name) for name in first + others} | {SHARED: SHARED}
    caption = (
        "Times are the stages' own, on all machines together: CPU that in which processors worked, "
        "GPU that in which GPUs were held."
    )
    notes = []
    if costs.total.killed:
        notes.append(
            f"Not counted: {costs.total.killed:,} attempts that were killed before they could say "
            "what they cost."
        )
    if costs.total.joules:
        notes.append(
            "Energy as Slurm's accounting tells it: that of the whole nodes, so it is a job's own "
            "only where jobs do not share nodes."
        )
    whole = Cell("Total", bold=True)
    by_step = [(text(name), costs.by_step[name]) for name in steps] + [(whole, costs.total)]
    by_system = [(text(labels[name]), costs.by_system[name]) for name in systems]
    by_system.append((whole, costs.total))
    with_energy = bool(costs.total.joules)
    return [
        table("costs_by_step", f"By step. {caption}", "Step", by_step, with_energy, []),
        table("costs_by_system", "By system.", "System", by_system, with_energy, notes),
    ]


def unit_of(total: Spent) -> tuple[str, int, str]:
    """The unit of a table, its seconds, and how its numbers are written: minutes for short runs."""
    return ("minutes", 60, ",.1f") if total.seconds < 3 * HOUR else ("hours", HOUR, ",.2f")


def table(
    name: str,
    caption: str,
    what: str,
    rows: list[tuple[Cell, Spent]],
    with_energy: bool,
    notes: list[str],
) -> Table:
    """One table of costs."""
    unit, seconds_of_it, form = unit_of(rows[-1][1])
    header = [what, "Results", "Attempts", unit.title(), f"CPU-{unit}", f"GPU-{unit}"]
    cells = [
        [
            head,
            number(spent.results),
            number(spent.attempts),
            *(
                number(seconds / seconds_of_it, form)
                for seconds in (spent.seconds, spent.cpu_seconds, spent.gpu_seconds)
            ),
            *([number(spent.joules / HOUR / 1000, ",.2f")] if with_energy else []),
        ]
        for head, spent in rows
    ]
    if with_energy:
        header.append("kWh")
    records = [{what.lower(): head.text, **vars(spent)} for head, spent in rows]
    return Table(name, caption, header, cells, records, notes)
