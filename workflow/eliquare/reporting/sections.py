"""Parts of the report beside the scores: headline, recipes, text, vocabularies, training, costs.

Each is a sentence or a table computed from the results; the model card shares the recipe.
"""

import re
import statistics
from collections.abc import Mapping
from typing import Any

import pandas as pd

from eliquare.config.model import Student, Teacher, Training
from eliquare.io import read_json
from eliquare.paths import FULL
from eliquare.reporting.formats import ABSENT, Cell, Table, render, tabulate
from eliquare.reporting.results import Experiment, flat, within_spread

# Rules that train on as many GPUs as their recipe asks for; the second group takes one.
TRAINING_RULES = ("pretrain_teacher", "adapt_teacher", "distill", "distill_extended")
ONE_GPU_RULES = ("finetune", "benchmark", "evaluate_intrinsic")
HOUR = 3600


# Headline


def best_student(experiment: Experiment) -> tuple[str, str]:
    """Return the best student and its teacher.

    The best student has the highest mean of the main metrics on the validation splits over all
    tasks, among the distilled ones whose teacher is compared too; nothing is named where each of
    them lacks a score. Where there is no such student, the best system alone is named, and the
    teacher is empty. Without any task, the best needs the fewest bits per character of held-out
    text.
    """
    means = validation_means(experiment)
    students = [
        student
        for student in experiment.students
        if experiment.paths.is_distilled(student)
        and experiment.teacher(student) in experiment.systems
    ]
    scored = [name for name in means if name in students or not students]
    best = max(scored, key=lambda name: means[name], default="")
    return best, experiment.teacher(best) if students else ""


def validation_means(experiment: Experiment) -> dict[str, float]:
    """Return what chooses the best system: the higher, the better."""
    if not experiment.scored_tasks:
        bits = {system: experiment.mean_bits(system) for system in experiment.systems}
        return {system: -each for system, each in bits.items() if each is not None}
    return {
        system: score.mean
        for system in experiment.systems
        if (score := experiment.mean_score(system, experiment.scored_tasks, "validation"))
    }


def headline(experiment: Experiment) -> str:
    """Return the result in a few words: the best student against its teacher.

    The numbers are of the test splits, which have not chosen it.
    """
    best, teacher = best_student(experiment)
    return render(
        "headline.j2",
        experiment=experiment,
        best=best,
        teacher=teacher,
        tasks=count_tasks(experiment.scored_tasks) if experiment.scored_tasks else "",
        score=best and experiment.mean_score(best, experiment.scored_tasks),
        reference=teacher and experiment.mean_score(teacher, experiment.scored_tasks),
        bits=experiment.mean_bits(best),
        teacher_bits=experiment.mean_bits(teacher),
        pairs=experiment.mean_pairs(best),
        teacher_pairs=experiment.mean_pairs(teacher),
        within_spread=within_spread,
        speedup=encoder_speedup(experiment, best),
    )


def count_tasks(tasks: list[str]) -> str:
    """Return how many tasks there are, in words."""
    return "1 task" if len(tasks) == 1 else f"{len(tasks)} tasks"


def encoder_speedup(experiment: Experiment, student: str) -> tuple[int, float] | None:
    """Return the smallest batch size and the speed-up of the encoder there.

    The geometric mean over languages; None if no batch size was measured for both.
    """
    ratios = [
        (row["batch_size"], speedup)
        for (system, language), benchmark in experiment.benchmarks.items()
        if system == student
        for row in benchmark["measurements"]
        if row["part"] == "encoder" and (speedup := experiment.speedup(student, language, row))
    ]
    if not ratios:
        return None
    smallest = min(size for size, _ in ratios)
    return smallest, statistics.geometric_mean(each for size, each in ratios if size == smallest)


# Recipes


def recipe(experiment: Experiment, student: str) -> dict[str, str]:
    """Return the settings of a student in words: name of the setting, value."""
    students = experiment.settings.students
    own, trained = students[student], students[experiment.paths.original_of(student)]
    training = trained.training
    words = {
        "Teacher": ", ".join(map(experiment.label, trained.teachers or [trained.teacher or ""])),
        "Vocabulary": vocabulary_words(experiment, own),
        "Layers": str(trained.num_hidden_layers),
        "Hidden size": str(trained.hidden_size or "the teacher's"),
        "Initialization": trained.initialization,
    }
    if training.max_steps == 0:
        return words | {"Training": "none"}
    size = training.per_device_train_batch_size * training.gradient_accumulation_steps
    seeds = [students[name].training.seed for name in experiment.members.get(student, [student])]
    return words | {
        "Frozen": ", ".join(trained.freeze) or "nothing",
        "Corpus": experiment.language(trained.corpus) if trained.corpus else "the language's own",
        "Share of documents": f"{trained.data_fraction:.0%}",
        "Objective": trained.objective.in_words(),
        "Budget": budget_words(training),
        "Sequences per step": f"{size * training.gpus:,}",
        "Learning rate": f"{training.learning_rate:g}",
        "Warm-up": f"{training.warmup_ratio:.0%} of the steps",
        "Weight decay": f"{training.weight_decay:g}",
        "Dropout": "none" if training.disable_dropout else "the teacher's",
        "Precision": training.precision,
        "Distillation seeds": ", ".join(map(str, seeds)),
    }


def budget_words(training: Training) -> str:
    """Return how long a training takes."""
    epochs, least, most = training.num_train_epochs, training.min_steps, training.max_steps
    if epochs is None:
        return f"{most:,} steps"
    bounds = {"at least": least, "at most": most}
    words = [f"{word} {steps:,} steps" for word, steps in bounds.items() if steps is not None]
    return ", ".join([f"{epochs:g} epochs", *words])


def vocabulary_words(experiment: Experiment, student: Student) -> str:
    """Return the origin of a student's vocabulary."""

    def rule(name: str) -> str:
        return in_words(experiment.settings.vocabularies[name].model_dump(exclude_defaults=True))

    if student.extension:
        extension = experiment.settings.extensions[student.extension]
        start = f", reduced ({rule(extension.vocabulary)})" if extension.vocabulary else ""
        how = in_words(extension.model_dump(exclude={"vocabulary"}, exclude_none=True))
        return f"the teacher's{start}, then extended ({how})"
    if not student.vocabulary:
        return "the teacher's in full"
    if student.reduced_from:
        original = experiment.label(student.reduced_from)
        return f"that of “{original}”, reduced after distillation ({rule(student.vocabulary)})"
    return f"reduced before distillation ({rule(student.vocabulary)})"


def in_words(settings: Mapping[str, Any]) -> str:
    """Return settings and their values for people."""
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in settings.items())


def recipes(experiment: Experiment) -> Table:
    """The settings of all students, a column each."""
    records = [
        {"student": student, **recipe(experiment, student)} for student in experiment.students
    ]
    names = list(dict.fromkeys(name for record in records for name in record))[1:]
    rows = [[Cell(name), *(Cell(record.get(name, ABSENT)) for record in records)] for name in names]
    header = ["Setting", *map(experiment.label, experiment.students)]
    return Table("recipes", "The settings of each student.", header, rows, records)


# Text and vocabularies


def corpora(experiment: Experiment) -> Table:
    """Pages, documents, and how many were dropped for which reason."""
    records = [{"corpus": name} | flat(report) for name, report in experiment.corpora.items()]
    dropped = dict.fromkeys(key for each in records for key in each if key.startswith("dropped_"))
    columns = [(title_of_reason(key), key, ",.0f") for key in dropped]
    notes = [f"{experiment.language(each['corpus'])}: {each['source']}." for each in records]
    return tabulate(experiment, "corpora", records, columns, notes)


def title_of_reason(key: str) -> str:
    """Return "Dropped: short" for ``dropped_short``, "Parts dropped: tables" for parts of pages."""
    reason = key.removeprefix("dropped_")
    kind = "Parts dropped" if reason.startswith("parts_") else "Dropped"
    return f"{kind}: {reason.removeprefix('parts_').replace('_', ' ')}"


def vocabularies(experiment: Experiment) -> Table:
    """Selected tokens, token coverage, and the effect on each text."""
    records = [
        {**report, "new": 0, **report["tokens"], **flat(effect)}
        | {"text": experiment.task_label(name) if name in experiment.settings.tasks else name}
        for report in experiment.vocabularies
        for name, effect in report["texts"].items()
    ]
    return tabulate(experiment, "vocabularies", records)


def vocabulary_sizes(experiment: Experiment) -> Table:
    """Number of tokens against coverage and fertility, with the chosen number."""
    records = [
        report | point | {"is chosen": Cell("chosen", bold=True) if point["chosen"] else Cell("")}
        for report in experiment.vocabularies
        for point in report.get("curve", [])
    ]
    return tabulate(experiment, "vocabulary_sizes", records)


def scripts(experiment: Experiment) -> Table:
    """Tokens of each reduced vocabulary by the script that they are written in."""
    records = []
    for report in experiment.vocabularies:
        of_all = report["tokens"].get("by_script", {})
        records += [
            report | {"script": script, "tokens": n, "share": n / sum(of_all.values())}
            for script, n in of_all.items()
        ]
    return tabulate(experiment, "scripts", records)


def verifications(experiment: Experiment) -> Table:
    """The comparison of each reduced model with the full one.

    Extended vocabularies have none: they are meant to segment text in another way.
    """
    records: list[dict[str, Any]] = []
    for report in experiment.vocabularies:
        if found := report.get("verification"):
            when = f"before distillation ({report['vocabulary']})"
            model = experiment.label(report["teacher"])
            records.append(found | {"corpus": report["corpus"], "model": model, "when": when})
    for student, language in experiment.paths.reductions():
        found = read_json(experiment.paths.verification(student, language))
        when = f"after distillation ({experiment.settings.students[student].vocabulary})"
        model = experiment.member_label(student)
        records.append(found | {"corpus": language, "model": model, "when": when})
    rows = [each | pd.DataFrame(each["texts"]).sum(axis=1).to_dict() for each in records]
    return tabulate(experiment, "verifications", rows)


# Training and costs


def distillations(experiment: Experiment) -> Table:
    """Steps, tokens, time and the selected checkpoint of each distillation."""
    records = []
    for curve in experiment.curves:
        last = next((row for row in reversed(curve.rows) if "tokens" in row), {"seconds": 0})
        evaluated = [row for row in curve.rows if "eval_loss" in row]
        key = "eval_kl" if any("eval_kl" in row for row in evaluated) else "eval_loss"
        best = min(evaluated, key=lambda row: float(row[key]), default={})
        names = {"student": experiment.member_label(curve.student), "corpus": curve.corpus}
        selected = {"best_loss": best.get(key), "best_step": best.get("step")}
        records.append(names | last | {"minutes": last["seconds"] / 60} | selected)
    return tabulate(experiment, "distillations", records)


def jobs(experiment: Experiment) -> pd.DataFrame:
    """Return a row for each finished job of the experiment, from Snakemake's benchmark files.

    ``results/costs/<rule>/<wildcards joined by ->.tsv``. Another experiment in the same folder
    has jobs there too: those of this one are named by its corpora, models and vocabularies alone.
    """
    names = "|".join(map(re.escape, sorted(names_of(experiment), key=len, reverse=True)))
    own = re.compile(rf"({names})(-({names}))*")
    rows = []
    for file in sorted(experiment.paths.costs.glob("*/*.tsv")):
        if own.fullmatch(file.stem):
            job = pd.read_csv(file, sep="\t", na_values=["-", "NA"]).iloc[-1].to_dict()
            gpus = gpus_of(experiment, file.parent.name, file.stem)
            rows.append({"rule": file.parent.name, "gpu_seconds": job["s"] * gpus} | job)
    return pd.DataFrame(rows)


def names_of(experiment: Experiment) -> set[str]:
    """Return the names that wildcards of the experiment's jobs can have."""
    settings, paths = experiment.settings, experiment.paths
    models, corpora, linked = set[str](), set(experiment.languages), [*settings.experiment.systems]
    while linked:
        models.add(name := linked.pop())
        entry = experiment.entries[name]
        corpora.update(filter(None, [getattr(entry, "corpus", None)]))
        linked += filter(None, [entry.teacher, getattr(entry, "reduced_from", None)])
        taught = getattr(entry, "task_distillation", None)
        linked += [taught.teacher] if taught else []
        linked += getattr(entry, "teachers", [])
    corpora |= {code for corpus in corpora for code in settings.members(corpus)}
    dumps = {
        f"{paths.wiki(code)}-{settings.languages[code].corpus.date}"
        for code in corpora & settings.languages.keys()
    }
    others = {settings.name, FULL, *settings.vocabularies, *settings.extensions}
    return models | corpora | dumps | others


def gpus_of(experiment: Experiment, rule: str, job: str) -> int:
    """Return the GPUs that a job asked for."""
    if rule not in TRAINING_RULES:
        return int(rule in ONE_GPU_RULES)
    settings = experiment.settings
    trained: dict[str, Teacher | Student] = {**settings.teachers, **settings.students}
    named = [name for name in trained if f"-{name}-" in f"-{job}-"]
    return trained[max(named, key=len)].training.gpus if named else 1


def costs(experiment: Experiment) -> Table | None:
    """Jobs, time, processor time and memory by step, and in sum; None if nothing was recorded."""
    found = jobs(experiment)
    if found.empty:
        return None
    steps = found.groupby("rule", sort=False).agg(
        jobs=("s", "size"),
        seconds=("s", "sum"),
        cpu_seconds=("cpu_time", "sum"),
        gpu_seconds=("gpu_seconds", "sum"),
        max_rss_mb=("max_rss", "max"),
    )
    steps = steps.sort_values("seconds", ascending=False)
    total = steps.sum()
    total["max_rss_mb"] = steps["max_rss_mb"].max()
    steps.loc["total"] = total
    long = total["seconds"] >= 3 * HOUR
    unit, divisor, form = ("hours", HOUR, ",.2f") if long else ("minutes", 60, ",.1f")
    for kind in ("", "cpu_", "gpu_"):
        steps[f"{kind}time"] = steps[f"{kind}seconds"] / divisor
    steps["step cell"] = [
        Cell(rule.replace("_", " ").capitalize(), bold=rule == "total") for rule in steps.index
    ]
    on_gpus = any(each.get("device_type") == "cuda" for each in experiment.benchmarks.values())
    columns = [(unit.capitalize(), "time", form), (f"CPU {unit}", "cpu_time", form)]
    columns += [(f"GPU {unit}", "gpu_time", form)] if on_gpus else []
    columns += [("Peak memory (MB)", "max_rss_mb", ",.0f")]
    notes = ["GPU time is that of the GPUs that a job asked for."] if on_gpus else []
    steps = steps.astype(object).where(steps.notna(), None).rename_axis("step").reset_index()
    return tabulate(experiment, "costs", steps.to_dict("records"), columns, notes)


def checksums(experiment: Experiment) -> Table:
    """The SHA-256 of each input that a distilled student was made of."""
    records = []
    for student, corpus in experiment.paths.distillations():
        origin = read_json(experiment.paths.student(student, corpus) / "provenance.json")
        names = {"student": experiment.member_label(student), "corpus": corpus}
        records += [
            names | {"input": name, "sha256": digest} for name, digest in origin["inputs"].items()
        ]
    return tabulate(experiment, "checksums", records)
