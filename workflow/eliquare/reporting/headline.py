"""The result of an experiment in one sentence, with numbers computed from it."""

import statistics

from eliquare.reporting.results import Experiment


def headline(experiment: Experiment) -> str:
    """The best student against its teacher: parameters, mean score, speed of the encoder.

    The best student is the one with the highest mean of the main metrics over all tasks, among the
    distilled ones whose teacher is in the experiment. Test scores choose it, so it may be the
    luckiest too.
    """
    tasks = experiment.tasks
    compared = [
        (mean, student)
        for student in experiment.students
        if experiment.is_distilled(student)
        and experiment.teacher(student) in experiment.systems
        and (mean := experiment.mean_score(student, tasks)) is not None
    ]
    if not compared:
        return without_teacher(experiment)
    mean, student = max(compared, key=lambda pair: pair[0])
    teacher = experiment.teacher(student)
    theirs = experiment.mean_score(teacher, tasks)
    ours, full = experiment.parameters(student) / 1e6, experiment.parameters(teacher) / 1e6
    counted = "the one task" if len(tasks) == 1 else f"{len(tasks)} tasks"
    sentence = (
        f"The best student, “{experiment.label(student)}”, has {ours / full:.0%} of its teacher's "
        f"parameters ({ours:,.1f} of {full:,.1f} million) and {mean / theirs:.1%} of its mean "
        f"score on {counted} ({mean:.3f} beside {theirs:.3f})"
    )
    times = times_faster(experiment, student, teacher)
    if times is None:
        return sentence + "."
    batch, ratio = times
    return f"{sentence}; its encoder is {ratio:.1f} times as fast (batch of {batch})."


def times_faster(experiment: Experiment, student: str, teacher: str) -> tuple[int, float] | None:
    """The smallest batch size, and how many times the student's encoder is faster there.

    The geometric mean over languages; None where no batch size was measured for both.
    """
    ratios: dict[int, list[float]] = {}
    for language in experiment.languages:
        ours, theirs = (experiment.encoder_latency(name, language) for name in (student, teacher))
        for size in ours.keys() & theirs.keys():
            ratios.setdefault(size, []).append(theirs[size] / ours[size])
    if not ratios:
        return None
    size = min(ratios)
    return size, statistics.geometric_mean(ratios[size])


def without_teacher(experiment: Experiment) -> str:
    """Where no student stands beside its teacher: the system with the highest mean score."""
    means = [
        (mean, system)
        for system in experiment.systems
        if (mean := experiment.mean_score(system, experiment.tasks)) is not None
    ]
    if not means:
        return f"{len(experiment.systems)} systems; none has a score on every task."
    mean, system = max(means, key=lambda pair: pair[0])
    return (
        f"The best of {len(experiment.systems)} systems, {experiment.label(system)}, has a mean "
        f"score of {mean:.3f} on {len(experiment.tasks)} tasks."
    )
