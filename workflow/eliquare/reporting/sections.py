"""Parts of the report beside the scores: headline, recipes, text, vocabularies, training, costs.

Each is a sentence or a table computed from the results; the model card shares the recipe.
"""

import re
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from eliquare.config.load import base_name
from eliquare.config.model import SelectionRule, Student
from eliquare.config.objective import Objective, Weight
from eliquare.io import read_json
from eliquare.paths import FULL
from eliquare.reporting.formats import Cell, Column, Table, number, tabulate, text
from eliquare.reporting.results import Curve, Experiment, within_spread

# Rules that train on as many GPUs as their recipe asks for; the second group takes one.
TRAINING_RULES = ("pretrain_teacher", "adapt_teacher", "distill", "distill_extended")
ONE_GPU_RULES = ("finetune", "benchmark")
HOUR = 3600


# Headline


def headline(experiment: Experiment) -> str:
    """Return the result in a few words: the best student against its teacher.

    The best student has the highest mean of the main metrics on the validation splits over all
    tasks, among the distilled ones whose teacher is compared too. Its numbers are of the test
    splits, which have not chosen it.
    """
    tasks = experiment.tasks
    candidates = {
        student: validation.mean
        for student in experiment.students
        if experiment.paths.is_distilled(student)
        and experiment.teacher(student) in experiment.systems
        and (validation := experiment.mean_score(student, tasks, "validation"))
    }
    if not candidates:
        return headline_without_teacher(experiment)
    student = max(candidates, key=lambda name: candidates[name])
    teacher = experiment.teacher(student)
    ours, full = experiment.parameters(student) / 1e6, experiment.parameters(teacher) / 1e6
    score, reference = experiment.mean_score(student, tasks), experiment.mean_score(teacher, tasks)
    words = (
        f"The student with the best validation scores, “{experiment.label(student)}”, has "
        f"{ours / full:.0%} of its teacher's parameters ({ours:,.1f} of {full:,.1f} million)"
    )
    if score and reference:
        draw = {True: ", a difference within the spread of seeds", None: ", from one seed each"}
        words += (
            f" and {score.mean / reference.mean:.1%} of its mean test score on "
            f"{counted(tasks)} ({score.mean:.3f} against {reference.mean:.3f}"
            f"{draw.get(within_spread(score, reference), '')})"
        )
    speedup = encoder_speedup(experiment, student)
    if speedup is None:
        return words + "."
    return f"{words}. Its encoder is {speedup[1]:.1f} times as fast (batch size {speedup[0]})."


def headline_without_teacher(experiment: Experiment) -> str:
    """Return the system with the best validation scores, where no student meets its teacher."""
    means = {
        system: score.mean
        for system in experiment.systems
        if (score := experiment.mean_score(system, experiment.tasks, "validation"))
    }
    if not means:
        return f"{len(experiment.systems)} systems; none has a score on every task."
    best = max(means, key=lambda name: means[name])
    score = experiment.mean_score(best, experiment.tasks)
    return (
        f"Of {len(experiment.systems)} systems, “{experiment.label(best)}” has the best validation "
        f"scores; its mean test score on {counted(experiment.tasks)} is "
        f"{score.mean if score else 0:.3f}."
    )


def counted(tasks: list[str]) -> str:
    """Return how many tasks there are, in words."""
    return "1 task" if len(tasks) == 1 else f"{len(tasks)} tasks"


def encoder_speedup(experiment: Experiment, student: str) -> tuple[int, float] | None:
    """Return the smallest batch size and the speed-up of the encoder there.

    The geometric mean over languages; None if no batch size was measured for both.
    """
    ratios: dict[int, list[float]] = {}
    for (system, language), benchmark in experiment.benchmarks.items():
        for row in benchmark["measurements"] if system == student else []:
            speedup = experiment.speedup(student, language, row)
            if row["part"] == "encoder" and speedup is not None:
                ratios.setdefault(row["batch_size"], []).append(speedup)
    if not ratios:
        return None
    return min(ratios), statistics.geometric_mean(ratios[min(ratios)])


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
    budget = f"{training.max_steps or 0:,} steps"
    if training.max_steps is None:
        budget = f"{training.num_train_epochs:g} epochs"
    size = training.per_device_train_batch_size * training.gradient_accumulation_steps
    seeds = [
        students[member].training.seed for member in experiment.members.get(student, [student])
    ]
    return words | {
        "Frozen": ", ".join(trained.freeze) or "nothing",
        "Corpus": experiment.language(trained.corpus) if trained.corpus else "the language's own",
        "Share of documents": f"{trained.data_fraction:.0%}",
        "Objective": objective_words(trained.objective),
        "Budget": budget,
        "Sequences per step": f"{size * training.gpus:,}",
        "Learning rate": f"{training.learning_rate:g}",
        "Warm-up": f"{training.warmup_ratio:.0%} of the steps",
        "Weight decay": f"{training.weight_decay:g}",
        "Precision": training.precision,
        "Distillation seeds": ", ".join(map(str, seeds)),
    }


def objective_words(objective: Objective) -> str:
    """Return the terms of an objective with their weights and settings."""
    words = []
    for name, term in objective.terms().items():
        settings = term.model_dump(exclude={"weight"}, exclude_none=True)
        inner = ", ".join(f"{key} {value}" for key, value in settings.items())
        words.append(f"{weight_words(term.weight)} {name}" + (f" ({inner})" if inner else ""))
    return " + ".join(words)


def weight_words(weight: Weight) -> str:
    """Return a weight, or the weights that a schedule goes through."""
    if weight.constant:
        return f"{weight.at(0):g}"
    return " to ".join(f"{value:g}" for _, value in weight.points)


def rule_words(rule: SelectionRule) -> str:
    """Return a selection rule without what it leaves at its default."""
    given = rule.model_dump(exclude_defaults=True)
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in given.items())


def vocabulary_words(experiment: Experiment, student: Student) -> str:
    """Return the origin of a student's vocabulary."""
    rules = experiment.settings.vocabularies
    if student.extension:
        extension = experiment.settings.extensions[student.extension]
        start = "the teacher's"
        if extension.vocabulary:
            start += f", reduced ({rule_words(rules[extension.vocabulary])})"
        given = extension.model_dump(exclude={"vocabulary"}, exclude_none=True)
        how = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in given.items())
        return f"{start}, then extended ({how})"
    if not student.vocabulary:
        return "the teacher's in full"
    rule = rule_words(rules[student.vocabulary])
    if student.reduced_from:
        original = experiment.label(base_name(student.reduced_from))
        return f"that of “{original}”, reduced after distillation ({rule})"
    return f"reduced before distillation ({rule})"


def recipes(experiment: Experiment) -> Table:
    """The settings of all students, a column each."""
    words = {student: recipe(experiment, student) for student in experiment.students}
    names = dict.fromkeys(name for each in words.values() for name in each)
    rows = [[text(name), *(text(each.get(name)) for each in words.values())] for name in names]
    header = ["Setting", *map(experiment.label, words)]
    records = [{"student": student, **each} for student, each in words.items()]
    return Table("recipes", "The settings of each student.", header, rows, records)


# Text and vocabularies


def corpora(experiment: Experiment) -> Table:
    """Pages, documents, and how many were dropped for which reason."""
    reports = experiment.corpora
    reasons = dict.fromkeys(reason for report in reports.values() for reason in dropped(report))
    records = [
        {"corpus": name}
        | {key: report.get(key) for key in ("source", "pages", "documents", "characters")}
        | {f"dropped_{reason}": dropped(report).get(reason) for reason in reasons}
        for name, report in reports.items()
    ]
    columns: list[Column] = [("Corpus", "corpus", experiment.language)]
    columns += [(key.capitalize(), key, ",.0f") for key in ("pages", "documents", "characters")]
    for reason in reasons:
        columns.append((f"Dropped: {reason.replace('_', ' ')}", f"dropped_{reason}", ",.0f"))
    notes = [
        f"{experiment.language(name)}: {source_words(report['source'])}."
        for name, report in reports.items()
        if report.get("source")
    ]
    return tabulate("corpora", "Text that the students were trained on.", columns, records, notes)


def dropped(report: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of dropped documents by reason."""
    return report.get("dropped") or {}


def source_words(source: str | dict[str, Any] | list[Any]) -> str:
    """Return the source of a corpus: a name, several, or keys and values."""
    if isinstance(source, dict):
        return ", ".join(f"{key} {value}" for key, value in source.items())
    return source if isinstance(source, str) else ", ".join(map(str, source))


def vocabularies(experiment: Experiment) -> Table:
    """Selected tokens, token coverage, and the effect on each text."""
    records = [
        {key: report[key] for key in ("corpus", "teacher", "vocabulary")}
        | {"selected": report["tokens"]["selected"], "of": report["tokens"]["of"]}
        | {"new": report["tokens"].get("new") or 0, "token_coverage": report["token_coverage"]}
        | {"text": name, "words": effect.get("words")}
        | {
            f"{measure}_{when}": effect[when][measure]
            for measure in ("unknown_share", "fertility")
            for when in ("before", "after")
        }
        for report in experiment.vocabularies
        for name, effect in report["texts"].items()
    ]

    def text_label(name: str) -> str:
        return experiment.task_label(name) if name in experiment.settings.tasks else name

    columns: list[Column] = [
        ("Corpus", "corpus", experiment.language),
        ("Teacher", "teacher", experiment.label),
        ("Vocabulary", "vocabulary", str),
        ("Tokens selected", "selected", ",.0f"),
        ("Of", "of", ",.0f"),
        ("New", "new", ",.0f"),
        ("Token coverage", "token_coverage", ".2%"),
        ("Text", "text", text_label),
        ("[UNK] before", "unknown_share_before", ".3%"),
        ("[UNK] after", "unknown_share_after", ".3%"),
        ("Fertility before", "fertility_before", ".2f"),
        ("Fertility after", "fertility_after", ".2f"),
    ]
    caption = (
        "Reduced and extended vocabularies. Token coverage: share of the corpus's tokens that were "
        "selected. Fertility: tokens per word."
    )
    return tabulate("vocabularies", caption, columns, records)


SENTENCE_COUNTS = {
    "sentences_read": "Sentences read",
    "sentences_segmented_identically": "Segmented identically",
    "sentences_newly_unknown": "With a new [UNK]",
    "sentences_compared": "Compared",
}


def findings(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """Yield the verification of each reduced model, with its corpus, label and time.

    Extended vocabularies have none: they are meant to segment text in another way.
    """
    for report in experiment.vocabularies:
        if report.get("verification"):
            yield report["verification"] | {
                "corpus": report["corpus"],
                "model": experiment.label(report["teacher"]),
                "when": f"before distillation ({report['vocabulary']})",
            }
    for student, language in experiment.paths.reductions():
        yield read_json(experiment.paths.verification(student, language)) | {
            "corpus": language,
            "model": member_label(experiment, student),
            "when": f"after distillation ({experiment.settings.students[student].vocabulary})",
        }


def member_label(experiment: Experiment, member: str) -> str:
    """Return the label of one distilled model, with its seed where there are several."""
    label = experiment.label(base_name(member))
    if len(experiment.members.get(base_name(member), [])) < 2:
        return label
    return f"{label}, seed {experiment.settings.students[member].training.seed}"


def verifications(experiment: Experiment) -> Table:
    """The comparison of each reduced model with the full one."""
    kept = ("corpus", "model", "when", "tokens", "hidden_states")
    records = [
        {key: found[key] for key in (*kept, "largest_relative_logit_difference")}
        | {key: sum(text[key] for text in found["texts"].values()) for key in SENTENCE_COUNTS}
        for found in findings(experiment)
    ]
    columns: list[Column] = [
        ("Corpus", "corpus", experiment.language),
        ("Model", "model", str),
        ("Reduced", "when", str),
        ("Tokens compared", "tokens", ",.0f"),
        *((head, key, ",.0f") for key, head in SENTENCE_COUNTS.items()),
        ("Hidden states", "hidden_states", str),
        ("Largest logit difference", "largest_relative_logit_difference", ".2g"),
    ]
    caption = (
        "Verification: reduced against full models, on all selected tokens and on sentences of the "
        "corpus and the tasks."
    )
    notes = [
        "A sentence with a dropped token is segmented differently; the table of vocabularies shows "
        "the effect. A new [UNK] is a character of a task that the corpus lacks.",
        "Logit differences are relative to the largest logit.",
    ]
    return tabulate("verifications", caption, columns, records, notes)


# Training and costs


def distillations(experiment: Experiment) -> Table:
    """Steps, tokens, time and the selected checkpoint of each distillation."""
    records = []
    for curve in experiment.curves:
        last: dict[str, Any] = next((row for row in reversed(curve.rows) if "tokens" in row), {})
        best, loss = best_row(curve)
        records.append(
            {"student": curve.student, "corpus": curve.corpus}
            | {key: last.get(key) for key in ("step", "tokens", "seconds")}
            | {"best_loss": loss, "best_step": best.get("step")}
        )
    columns: list[Column] = [
        ("Student", "student", lambda member: member_label(experiment, member)),
        ("Corpus", "corpus", experiment.language),
        ("Steps", "step", ",.0f"),
        ("Tokens", "tokens", ",.0f"),
        ("Minutes", "seconds", lambda seconds: number(seconds / 60, ",.1f")),
        ("Lowest validation loss", "best_loss", ".4f"),
        ("At step", "best_step", ",.0f"),
    ]
    caption = (
        "The distillations. The student is the checkpoint with the lowest validation loss: the KL "
        "term, or the sum of all terms where the objective has no KL."
    )
    return tabulate("distillations", caption, columns, records)


def best_row(curve: Curve) -> tuple[dict[str, Any], float | None]:
    """Return the validation that selected the checkpoint, and its loss."""
    evaluated = [row for row in curve.rows if "eval_loss" in row]
    key = "eval_kl" if any("eval_kl" in row for row in evaluated) else "eval_loss"
    best: dict[str, Any] = min(evaluated, key=lambda row: float(row[key]), default={})
    return best, best.get(key)


def jobs(experiment: Experiment) -> pd.DataFrame:
    """Return a row for each finished job of the experiment, from Snakemake's benchmark files.

    ``results/costs/<rule>/<wildcards joined by ->.tsv``. Another experiment in the same folder
    has jobs there too: those of this one are named by its corpora, models and vocabularies alone.
    """
    names = "|".join(map(re.escape, sorted(names_of(experiment), key=len, reverse=True)))
    own = re.compile(rf"({names})(-({names}))*")
    rows = []
    for file in sorted(experiment.paths.costs().glob("*/*.tsv")):
        if own.fullmatch(file.stem):
            job = pd.read_csv(file, sep="\t", na_values=["-", "NA"]).iloc[-1].to_dict()
            gpus = gpus_of(experiment, file.parent.name, file.stem)
            rows.append({"rule": file.parent.name, "gpu_seconds": job["s"] * gpus} | job)
    return pd.DataFrame(rows)


def names_of(experiment: Experiment) -> set[str]:
    """Return the names that wildcards of the experiment's jobs can have."""
    settings, paths = experiment.settings, experiment.paths
    models = {name for members in experiment.members.values() for name in members}
    students = {name for name in models if name in settings.students}
    originals = {paths.original_of(name) for name in students}
    teachers = {name for student in originals for name in paths.teachers_of(student)}
    teachers |= models & settings.teachers.keys()
    teachers |= {settings.systems[name].teacher or "" for name in models & settings.systems.keys()}
    teachers = {name for name in teachers if name}
    teachers |= {paths.root_teacher(name) for name in teachers}
    corpora = {*experiment.languages, *(corpus for _, corpus in paths.distillations())}
    corpora |= {settings.teachers[name].corpus or "" for name in teachers} - {""}
    corpora |= {code for corpus in corpora for code in settings.mixtures.get(corpus, [])}
    dumps = {
        f"{paths.wiki(code)}-{settings.languages[code].corpus.date}"
        for code in corpora & settings.languages.keys()
    }
    others = {settings.name, FULL, *settings.vocabularies, *settings.extensions}
    return models | originals | teachers | corpora | dumps | others


def gpus_of(experiment: Experiment, rule: str, job: str) -> int:
    """Return the GPUs that a job asked for."""
    if rule not in TRAINING_RULES:
        return int(rule in ONE_GPU_RULES)
    teachers, students = experiment.settings.teachers, experiment.settings.students
    trainings = {name: teacher.training for name, teacher in teachers.items()}
    trainings |= {name: student.training for name, student in students.items()}
    named = [name for name in trainings if f"-{name}-" in f"-{job}-"]
    return trainings[max(named, key=len)].gpus if named else 1


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
    unit, divisor, form = ("minutes", 60, ",.1f")
    if total["seconds"] >= 3 * HOUR:
        unit, divisor, form = ("hours", HOUR, ",.2f")
    on_gpus = any(each.get("device_type") == "cuda" for each in experiment.benchmarks.values())
    records = [
        {"step": name} | {key: None if pd.isna(value) else value for key, value in step.items()}
        for name, step in [*steps.iterrows(), ("total", total)]
    ]

    def time(seconds: float) -> Cell:
        return number(seconds / divisor, form)

    columns: list[Column] = [
        ("Step", "step", lambda rule: Cell(words_of(rule), bold=rule == "total")),
        ("Jobs", "jobs", ",.0f"),
        (unit.capitalize(), "seconds", time),
        (f"CPU {unit}", "cpu_seconds", time),
        *([(f"GPU {unit}", "gpu_seconds", time)] if on_gpus else []),
        ("Peak memory (MB)", "max_rss_mb", ",.0f"),
    ]
    caption = "Cost of the results by step: the last successful job of each, on all machines."
    notes = ["GPU time is that of the GPUs that a job asked for."] if on_gpus else []
    return tabulate("costs", caption, columns, records, notes)


def words_of(rule: str) -> str:
    """Return a rule's name for people."""
    return rule.replace("_", " ").capitalize()
