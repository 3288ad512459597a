"""What a reader asks first, answered in a line each; and everything that limits the answers."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from eliquare.io import read_json, read_json_lines
from eliquare.reporting import frontier
from eliquare.reporting.results import (
    STEADY,
    Benchmarks,
    Experiment,
    conditions,
    in_words,
    metric_label,
    within_spread,
)
from eliquare.reporting.sections import (
    HOUR,
    best_student,
    count_tasks,
    encoder_speedup,
    jobs,
    validation_means,
)
from eliquare.reporting.tables import task_notes

# Larger shares of unknown tokens, fewer test examples and fewer seeds than these are reported.
UNKNOWN_SHARE = 0.005
FEW_EXAMPLES = 300
FEW_SEEDS = 3
# Fine-tuning was cut short if its last epoch raised the score on validation by more.
RISING = 0.02
# Encoders of one size take the same time; medians that differ by more say how noisy all are.
NOISE_OF_SPEED = 1.25
# A model cannot be faster than its encoder; by less than this, the measurement is noisy.
SHARE_OF_HEADLESS = 0.95
DISTILLING = ("distill", "distill_extended")
# A model with the same first answer to so many masked words has collapsed.
FEWEST_MASKED = 5


@dataclass(frozen=True)
class Answer:
    """An answer to a question of the reader's: a few words, and what stands behind them."""

    question: str
    answer: str
    details: list[str]


# Answers


def answers(experiment: Experiment, warnings: int) -> list[Answer]:
    """Return what to take, what it loses, how fast it is, what it cost, and whether to trust it."""
    best, teacher = best_student(experiment)
    asked = [
        Answer("Which model should I take?", experiment.label(best), list(choice(experiment, best)))
        if best
        else None,
        loss(experiment, best, teacher) if teacher else None,
        speed(experiment, best, teacher) if teacher else None,
        size(experiment, best, teacher) if teacher else None,
        cost(experiment),
        trust(experiment, warnings),
    ]
    return [answer for answer in asked if answer]


def choice(experiment: Experiment, best: str) -> Iterator[str]:
    """Yield by what the best student was chosen, and which others are as good."""
    own = experiment.mean_score(best, experiment.scored_tasks, "validation")
    if own:
        tasks = count_tasks(experiment.scored_tasks)
        yield f"Best mean on the validation splits of {tasks} ({own.mean:.3f})."
    else:
        yield "Fewest bits per character of held-out text."
    alike = [
        f"{experiment.label(other)} ({score.mean:.3f})"
        for other in experiment.students
        if other != best
        and (score := experiment.mean_score(other, experiment.scored_tasks, "validation"))
        and own
        and within_spread(own, score)
    ]
    if alike:
        yield f"No clear difference, given the spread of seeds: {', '.join(alike)}."
    means = validation_means(experiment)
    above = [name for name in experiment.students if means.get(name, -9e9) > means[best]]
    untrained = [name for name in above if not experiment.paths.is_distilled(name)]
    alone = [name for name in above if name not in untrained]
    for reason, names in (("not distilled", untrained), ("its teacher is not compared", alone)):
        if names:
            yield f"Higher, but {reason}: {', '.join(map(experiment.label, names))}."


def loss(experiment: Experiment, best: str, teacher: str) -> Answer:
    """Return what the best student scores less than its teacher, in all and where it is most."""
    question, tasks = "What do I lose?", experiment.scored_tasks
    ours, full = (experiment.mean_score(name, tasks) for name in (best, teacher))
    if not ours or not full:
        bits, of_teacher = experiment.mean_bits(best), experiment.mean_bits(teacher)
        if not bits or not of_teacher:
            return Answer(question, "Not measured", ["Teacher and student share no test."])
        said = f"{bits:.3f} bits per character, the teacher {of_teacher:.3f}."
        return Answer(question, f"{bits / of_teacher - 1:+.1%} bits".replace("-", "−"), [said])
    details = [f"Mean test score {ours.mean:.3f}, the teacher's {full.mean:.3f}."]
    known = within_spread(ours, full)
    details += {True: ["Within the spread of seeds."], None: ["From one seed each."]}.get(known, [])
    nothing = "Nothing" if known is False else "No loss seen"
    drops = {
        task: a.mean - b.mean
        for task in tasks
        if (a := experiment.score(best, task)) and (b := experiment.score(teacher, task))
    }
    if len(drops) > 1:
        worst = min(drops, key=lambda task: drops[task])
        kind = "Largest loss" if drops[worst] < 0 else "Smallest gain"
        details.append(f"{kind}: {experiment.task_title(worst)}, {points(drops[worst])}.")
    details += by_frozen_embeddings(experiment, best, teacher)
    lost = points(ours.mean - full.mean)
    return Answer(question, lost if ours.mean < full.mean else f"{nothing} ({lost})", details)


def by_frozen_embeddings(experiment: Experiment, best: str, teacher: str) -> Iterator[str]:
    """Yield what embeddings score as they are, on topics those of a sentence encoder alone."""
    languages = [
        language
        for language in experiment.languages
        if any(
            report.get("embeddings", {}).get("said_by_model")
            for report in experiment.intrinsic(best, language).values()
        )
    ]
    pairs = [
        (ours.mean, other.mean)
        for language in languages
        for task in experiment.paths.topics([language])
        if (ours := experiment.embedding_score(best, language, task))
        and (other := experiment.embedding_score(teacher, language, task))
    ]
    if pairs:
        student, full = (statistics.fmean(each) for each in zip(*pairs, strict=True))
        yield f"Topics by frozen embeddings, on test: {student:.3f}, the teacher's {full:.3f}."
    for task in experiment.paths.embedded_pairs():
        language = experiment.settings.tasks[task].language
        own, its = (experiment.embedding_score(each, language, task) for each in (best, teacher))
        if own and its:
            title = f"{experiment.task_title(task)} ({metric_label(own.metric)})"
            yield f"{title}: {own.mean:.3f}, the teacher's {its.mean:.3f}."


def points(difference: float) -> str:
    """Return a difference of scores in points of a hundred."""
    return f"{100 * difference:+.1f} points".replace("-", "−")


def speed(experiment: Experiment, best: str, teacher: str) -> Answer | None:
    """Return how many times as fast the encoder is, and its latency."""
    speedup = encoder_speedup(experiment, best)
    details = []
    for language in experiment.languages:
        pair = experiment.benchmark(best, language), experiment.benchmark(teacher, language)
        if pair[0] and pair[1]:
            ours, full = map(frontier.latency, (pair[0], pair[1]))
            where = f"{experiment.language(language)}: " if len(experiment.languages) > 1 else ""
            details.append(f"{where}{ours:,.1f} ms instead of {full:,.1f} ms.")
    if not details:
        return None
    details.append(f"{upper(frontier.condition(experiment, experiment.languages[0]))}.")
    if any(of_speed(experiment)):
        details.append("How far to rely on it: see the warnings of speed.")
    if not speedup:
        return Answer("How fast is it?", "Not certain", details)
    return Answer("How fast is it?", f"{speedup[1]:.1f} times its teacher", details)


def upper(words: str) -> str:
    """Return words with a capital letter first."""
    return words[:1].upper() + words[1:]


def size(experiment: Experiment, best: str, teacher: str) -> Answer | None:
    """Return the bytes of the best student against its teacher's, the mean over languages."""
    means = []
    for system in (best, teacher):
        found = experiment.benchmarks_of([system], experiment.languages).values()
        means.append(statistics.fmean(each["weights_mb"] for each in found) if found else 0.0)
    ours, full = means
    if not ours or not full:
        return None
    details = [f"{ours:,.1f} MB on disk instead of {full:,.1f} MB."]
    totals = experiment.parameters(best), experiment.parameters(teacher)
    if totals[0] and totals[1]:
        details.append(f"{totals[0] / 1e6:,.3g} of {totals[1] / 1e6:,.3g} million parameters.")
    return Answer("How small is it?", f"{ours / full:.0%} of its teacher", details)


def cost(experiment: Experiment) -> Answer:
    """Return the time of all jobs, and the rule that took the largest part of it."""
    question, found = "What did it cost?", jobs(experiment)
    if found.empty:
        return Answer(question, "Not recorded", ["No times of jobs are in the results."])
    by_rule = found.groupby("rule")["s"].sum().sort_values(ascending=False)
    seconds, most = float(by_rule.sum()), str(by_rule.index[0]).replace("_", " ")
    said = f"{seconds / HOUR:,.1f} hours" if seconds >= 2 * HOUR else f"{seconds / 60:,.0f} minutes"
    details = [
        f"{len(found):,} jobs, from the text to the report; the largest part: {most} "
        f"({by_rule.iloc[0] / seconds:.0%})."
    ]
    if distilling := float(by_rule[by_rule.index.isin(DISTILLING)].sum()):
        details.append(f"{distilling / seconds:.0%} to distil.")
    if found["max_rss"].notna().any():
        details.append(f"At most {found['max_rss'].max():,.0f} MB of memory.")
    if any(each.get("device_type") == "cuda" for each in experiment.benchmarks.values()):
        details.append(f"{found['gpu_seconds'].sum() / HOUR:,.1f} hours of GPUs.")
    return Answer(question, f"{said} of jobs", details)


def trust(experiment: Experiment, warnings: int) -> Answer:
    """Return how many seeds the numbers come from, and how many warnings there are."""
    fine = len(experiment.settings.experiment.seeds)
    trained = [name for name in experiment.students if experiment.paths.is_distilled(name)]
    seeds = sorted({len(experiment.members[name]) for name in trained})
    said = [f"{fine} seed{'s' * (fine > 1)} of fine-tuning"] if experiment.tasks else []
    if seeds:
        distilled = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else seeds[0]
        said.append(
            f"{distilled} of distillation" if said else f"Seeds of distillation: {distilled}"
        )
    details = [f"{', '.join(said)}."] if said else []
    if experiment.tasks:
        details.append("Chosen on validation, scored on test.")
    checks = [each for each in experiment.vocabularies if each.get("verification")]
    if checks or experiment.paths.reductions():
        details.append("Each reduced model was verified to give the outputs of its full one.")
    warned = f"{warnings} warning{'s' * (warnings != 1)}, below"
    return Answer("Can I trust it?", warned if warnings else "Nothing went wrong", details)


# Warnings

Remark = tuple[str, str]  # what it is of, and what is said of it


def warnings(experiment: Experiment) -> dict[str, list[str]]:
    """Return everything that went wrong, or is thin, by what it limits.

    What is said of several things in the same words is one line.
    """
    kinds = {
        "Not available": unavailable(experiment),
        "Text": of_text(experiment),
        "Training": of_training(experiment),
        "Unknown tokens": unknown_tokens(experiment),
        "Scores": of_scores(experiment),
        "Speed": of_speed(experiment),
    }
    found: dict[str, list[str]] = {}
    for kind, some in kinds.items():
        subjects: dict[str, dict[str, None]] = {}
        for subject, words in some:
            subjects.setdefault(words, {})[subject] = None
        lines = [f"{'; '.join(of)}: {words}".removeprefix(": ") for words, of in subjects.items()]
        found |= {kind: lines} if lines else {}
    return found


def unavailable(experiment: Experiment) -> Iterator[Remark]:
    """Yield the systems and tasks that could not be fetched."""
    for system, task in product(experiment.systems, experiment.tasks):
        if reason := experiment.why_unscored(system, task):
            yield "", reason
    for system, language in product(experiment.systems, experiment.languages):
        for report in experiment.intrinsic(system, language).values():
            if "unavailable" in report and not experiment.tasks:
                yield experiment.label(system), f"not available: {report['unavailable']}."
            embedded = report.get("embeddings", {}).get("pairs", {})
            for task, pairs in (report.get("minimal_pairs", {}) | embedded).items():
                if reason := pairs.get("unavailable"):
                    yield experiment.task_title(task), f"not available: {reason}."


def of_text(experiment: Experiment) -> Iterator[Remark]:
    """Yield what is wrong with the text, and languages that a teacher's tokenizer cuts to bits."""
    for corpus, report in experiment.corpora.items():
        for line in report["warnings"]:
            yield experiment.language(corpus), line
    for teacher, corpus, line in experiment.tokenizer_warnings:
        yield f"{experiment.label(teacher)}, {experiment.language(corpus)}", line


def of_training(experiment: Experiment) -> Iterator[Remark]:
    """Yield what the trainings warned of, and models that answer the same to everything."""
    if experiment.settings.smoke:
        yield "", "A smoke run, of a few steps, documents and sentences: its numbers say nothing."
    paths = experiment.paths
    for student, corpus in paths.distillations():
        for teacher in paths.teachers_of(student):
            for name in paths.adapted_from(teacher):
                for line in warned(paths.teacher(corpus, name)):
                    yield experiment.label(name), line
        for line in warned(paths.student(student, corpus)):
            yield f"{experiment.member_label(student)}, {experiment.language(corpus)}", line
    for system, language in product(experiment.systems, experiment.languages):
        if is_untrained(experiment, system):
            continue
        for report in experiment.intrinsic(system, language).values():
            masked = report.get("masked_sentences", [])
            said = {each["answers"][0]["token"] for each in masked}
            if len(masked) >= FEWEST_MASKED and len(said) == 1:
                yield (
                    f"{experiment.label(system)}, {experiment.language(language)}",
                    f"predicts “{said.pop()}” for every masked word; it has collapsed, or was "
                    "hardly trained",
                )


def is_untrained(experiment: Experiment, system: str) -> bool:
    """Return whether a system is a student that was never trained, for comparison."""
    paths, students = experiment.paths, experiment.settings.students
    return system in students and not paths.is_distilled(paths.original_of(system))


def warned(model: Path) -> list[str]:
    """Return the warnings in the provenance of a model, if it has one."""
    origin = model / "provenance.json"
    found: list[str] = read_json(origin).get("warnings", []) if origin.exists() else []
    return found


def unknown_tokens(experiment: Experiment) -> Iterator[Remark]:
    """Yield the texts of which a tokenizer does not know a part."""
    for system, task in product(experiment.systems, experiment.tasks):
        share = experiment.evaluated(system, task).get("unknown_share", {}).get("test", 0)
        if share > UNKNOWN_SHARE:
            title = f"{experiment.label(system)}, {experiment.task_title(task)}"
            yield title, f"{share:.1%} of the test tokens are unknown."
    for system, language in product(experiment.systems, experiment.languages):
        for report in experiment.intrinsic(system, language).values():
            if (share := report.get("unknown_share", 0)) > UNKNOWN_SHARE:
                title = f"{experiment.label(system)}, {experiment.language(language)}"
                yield title, f"{share:.1%} of the tokens of the held-out text are unknown."


def of_pairs(experiment: Experiment) -> Iterator[Remark]:
    """Yield the small tests of embeddings."""
    for system, language in product(experiment.systems, experiment.languages):
        for report in experiment.intrinsic(system, language).values():
            for task, scored in report.get("embeddings", {}).get("pairs", {}).items():
                if scored.get("pairs", FEW_EXAMPLES) < FEW_EXAMPLES:
                    yield experiment.task_title(task), f"only {scored['pairs']:,} pairs."


def of_scores(experiment: Experiment) -> Iterator[Remark]:
    """Yield what makes scores uncertain: truncated texts, unseen labels, small tests, few seeds."""
    yield from of_pairs(experiment)
    for task in experiment.tasks:
        for note in task_notes(experiment, task):
            yield "", note
        title = experiment.task_title(task)
        sizes = [experiment.evaluated(system, task).get("sizes") for system in experiment.systems]
        fewest = min((size["test"] for size in sizes if size), default=FEW_EXAMPLES)
        if fewest < FEW_EXAMPLES:
            yield title, f"only {fewest:,} test examples."
        rises = {system: last_rise(experiment, system, task) for system in experiment.systems}
        steepest = max(rises, key=lambda system: rises[system])
        if rises[steepest] > RISING:
            rise = f"{points(rises[steepest]).lstrip('+')} for “{experiment.label(steepest)}”"
            words = f"the last epoch of fine-tuning still raised the validation score, by {rise}"
            words += ", the most: the scores had not settled. Give more epochs"
            yield title, f"{words} (finetuning.num_train_epochs)."
        for system in experiment.systems:
            teacher = experiment.teacher(system)
            if not is_untrained(experiment, system) or teacher not in experiment.systems:
                continue
            own, full = experiment.score(system, task), experiment.score(teacher, task)
            if own and full and own.mean >= full.mean:
                words = f"“{experiment.label(system)}” scores no lower than the teacher"
                words += f" ({points(own.mean - full.mean)})"
                yield title, f"{words}; this task does not show what a model has learnt from text."
    seeds = len(experiment.settings.experiment.seeds)
    if experiment.tasks and seeds < FEW_SEEDS:
        spread = "unknown" if seeds == 1 else "known roughly"
        yield "", f"Fine-tuned with {seeds} seed{'s' * (seeds > 1)}; the spread is {spread}."
    trained = [name for name in experiment.students if experiment.paths.is_distilled(name)]
    if trained and all(len(experiment.members[name]) == 1 for name in trained):
        yield "", "Each student was distilled with one seed; the spread over others is unknown."


def last_rise(experiment: Experiment, system: str, task: str) -> float:
    """Return how far the last epoch is above the best before it on validation, mean over runs.

    0 where it was not the best in each run. What one epoch alone would have risen to is not known.
    """
    key = f"validation_{experiment.metric(task)}"
    rises = []
    for folder in experiment.finetuned(system, task).values():
        if (history := folder / "history.jsonl").exists():
            *before, last = (epoch[key] for epoch in read_json_lines(history))
            rises.append(last - max(before, default=last))
    return statistics.fmean(rises) if rises and min(rises) > 0 else 0.0


def of_speed(experiment: Experiment) -> Iterator[Remark]:
    """Yield measurements that other work disturbed, or that were not made on one machine."""
    for language in experiment.languages:
        found = experiment.benchmarks_of(experiment.systems, [language])
        measured = {in_words(each) for each in found.values()}
        if len(measured) > 1:
            words = "; ".join(sorted(measured))
            yield experiment.language(language), f"speeds are not measured alike: {words}."
        for (system, _), benchmark in found.items():
            for words in disturbed(benchmark["measurements"]):
                yield f"{experiment.label(system)}, {experiment.language(language)}", words
        yield from unequal(experiment, language, found)


def disturbed(measurements: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what shows that other work ran beside the measurements of one system."""
    encoders = {
        row["batch_size"]: row["latency_ms"] for row in measurements if row["part"] == "encoder"
    }
    for size, latency in encoders.items():
        if latency["upper_quartile"] > STEADY * latency["lower_quartile"]:
            words = f"other work disturbed the latency at batch size {size}"
            yield f"{words}; measure again on a quiet machine."
    for row in measurements:
        alone = encoders.get(row["batch_size"], {"median": 0})["median"]
        if row["latency_ms"]["median"] < SHARE_OF_HEADLESS * alone:
            words = (
                f"at batch size {row['batch_size']} it was faster with its MLM head than without"
            )
            yield f"{words}, which noise alone explains."


def unequal(experiment: Experiment, language: str, found: Benchmarks) -> Iterator[Remark]:
    """Yield encoders of one size whose latencies differ: so much may be chance in all of them."""
    alike: dict[tuple[Any, ...], dict[str, float]] = {}
    for (system, _), each in found.items():
        for row in each["measurements"]:
            if row["part"] == "encoder":
                key = row["batch_size"], each["parameters"]["encoder"], *conditions(each).values()
                alike.setdefault(key, {})[system] = row["latency_ms"]["median"]
    for (batch_size, *_), latencies in alike.items():
        fast, slow = (pick(latencies, key=latencies.__getitem__) for pick in (min, max))
        if (ratio := latencies[slow] / latencies[fast]) > NOISE_OF_SPEED:
            yield (
                experiment.language(language),
                f"at batch size {batch_size} “{experiment.label(slow)}” took {ratio:.1f} times as "
                f"long as “{experiment.label(fast)}”, whose encoder is of the same size; smaller "
                f"differences between other systems may be noise.",
            )
