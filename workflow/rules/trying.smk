# What trying a recipe before its training takes, and which trainings wait for it.

import hashlib

from snakemake.io import IOFile
from snakemake.iocontainers import Wildcards

SMOKE = "results/smoke"
# Sequences of a training from which its recipe is tried first: a matter of an hour, not of minutes.
LONG = 1_000_000


def smoke_options(student, corpus):
    """For each part of a recipe the options of its stage: all that decides the trained student."""
    recipe = config["students"][student]
    conditioned, teacher = [], config["teachers"][recipe["teacher"]]
    while teacher["source"] == "condition":
        conditioned.insert(0, options(budget(teacher["training"])))
        teacher = config["teachers"][teacher["teacher"]]
    named = Wildcards(fromdict={"student": student, "corpus": corpus})
    parts = [
        ("sequences", options(sequences_options(corpus))),
        ("masking", options(MASKING)),
        *(("conditioning", words) for words in conditioned),
        ("student", student_options(named)),
        ("distillation", distillation_options(named)),
    ]
    if teacher["source"] == "pretrain":
        parts.append(("pretraining", pretraining_options(teacher)))
    if recipe["vocabulary"] == "pre":
        parts.append(("vocabulary", options(config["vocabularies"][recipe["rule"]])))
    return " ".join(f"--{name}-options={quoted(words)}" for name, words in parts)


def smoke_result(student, corpus):
    """What trying a recipe leaves: named after its settings, so that it holds for these alone."""
    settings = hashlib.sha256(smoke_options(student, corpus).encode()).hexdigest()
    return f"{SMOKE}/{student}-{corpus}-{settings[:8]}.json"


def smoke_teacher(wildcards):
    """What the teacher of a recipe starts from: a model that was fetched, or its tokenizer."""
    root = layout.root(recipe_of(wildcards)["teacher"])
    return layout.tokenizer(wildcards.corpus, root, FULL)


def trained_from_nothing(wildcards):
    """Whether the workflow trains the teacher of a recipe itself."""
    root = layout.root(recipe_of(wildcards)["teacher"])
    return config["teachers"][root]["source"] == "pretrain"


def is_long(training):
    """Whether a training is long enough to be worth a minute of trying before it."""
    if training["epochs"] is not None:
        return True
    sequences = training["batch_size"] * training["accumulation"] * training["gpus"]
    return training["steps"] * sequences >= LONG


def tried(wildcards):
    """The smoke result that a long training waits for.

    A student that was trained before without one, by the same options, is not trained again for it:
    what Snakemake wrote down of the inputs then is what they are now.
    """
    student, corpus = wildcards.student, wildcards.corpus
    output = IOFile(str(layout.student(student, corpus, "distilled")))
    inputs = workflow.persistence.input(output)
    params = workflow.persistence.params(output) or []
    if inputs is not None and repr(distillation_options(wildcards)) in params:
        wanted = any(path.startswith(SMOKE) for path in inputs)
    else:
        wanted = is_long(recipe_of(wildcards)["training"])
    return ancient(smoke_result(student, corpus)) if wanted else []
