# Which trainings wait for a trial, by what Snakemake wrote down of them.

from eliquare.trials import Trials
from snakemake.io import IOFile

trials = Trials(layout, commands)


def tried_student(wildcards):
    """The trial that a long distillation waits for."""
    student, corpus = wildcards.student, wildcards.corpus
    return tried(
        layout.student(student, corpus, "distilled"),
        recipe_of(wildcards)["training"],
        commands.distillation(student, corpus),
        trials.of_student(student, corpus),
    )


def tried_teacher(wildcards):
    """The trial that a long training of a teacher waits for."""
    teacher = wildcards.teacher
    corpus = wildcards.get("corpus") or teacher_of(wildcards)["corpus"]
    return tried(
        layout.teacher(corpus, teacher),
        teacher_of(wildcards)["training"],
        commands.teacher(teacher),
        trials.of_teacher(teacher, corpus),
    )


def tried(output, training, words, trial):
    output = IOFile(str(output))
    inputs = workflow.persistence.input(output)
    params = workflow.persistence.params(output)
    return ancient(trial) if trials.waits(training, words, inputs, params) else []
