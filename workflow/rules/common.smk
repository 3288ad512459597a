# The completed configuration, and what rules ask of it by their wildcards.

import re

from eliquare import settings
from eliquare.commands import Commands, launcher, options, quoted
from eliquare.layout import DUMPS, FULL, Layout
from eliquare.settings_entries import check_files
from eliquare.settings_shared import check_shared
from eliquare.stage import Failure, InputError, version


def read_settings():
    source = ", ".join(map(str, workflow.overwrite_configfiles)) or "config/config.yaml"
    try:
        completed = settings.complete(config, source)
        check_files(completed, source)
        if workflow.is_main_process:
            check_shared(completed, source, Path("results"))
        return completed
    except InputError as error:
        # A mistake in the configuration is the user's to mend: one line, and no traceback.
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(2)


config = read_settings()
layout = Layout(config)
commands = Commands(layout)

# What clones share through an output cache, whatever the software. Only where --cache asks for it:
# Snakemake warns of every rule that is marked and not asked for.
SHARED = "omit-software" if workflow.workflow_settings.cache is not None else None
if workflow.workflow_settings.cache == []:
    # --cache alone is an empty list, which Snakemake does not hand on to the jobs of a cluster.
    workflow.workflow_settings.cache = ["articles"]

PREPARED = "results/corpora/{corpus}/{teacher}/{vocabulary}"


def one_of(names):
    """A wildcard constraint: one of these names, or nothing at all."""
    return "|".join(map(re.escape, names)) or "(?!)"


def by_source(kind):
    return [
        code
        for code, entry in config["languages"].items()
        if entry["corpus"]["source"] == kind
    ]


def teachers_from(*sources):
    return [
        name for name, entry in config["teachers"].items() if entry["source"] in sources
    ]


def checkpoints(training_of):
    """The options of a masked training that change nothing of its result.

    Snakemake leaves a parameter that is made from resources out of what it compares with the last
    run.
    """
    return (
        lambda wildcards, resources: "--checkpoint-minutes"
        f" {training_of(wildcards)['checkpoint_minutes']}"
    )


# Corpora


def corpus_of(wildcards):
    return config["languages"][wildcards.corpus]["corpus"]


def mirror_of(wildcards):
    """The mirror of a wiki, from the first language that takes it."""
    for code in by_source("dump"):
        entry = config["languages"][code]["corpus"]
        if layout.wiki(code) == wildcards.wiki and entry["date"] == wildcards.date:
            return entry["mirror"]
    raise ValueError(f"no language takes {wildcards.wiki} of {wildcards.date}")


def generated_mirror(wildcards):
    """The demo's mirror is made by the workflow itself; any other is there before."""
    mirror = mirror_of(wildcards)
    if "world" not in config or mirror != "resources/demo/mirror":
        return []
    name = f"{wildcards.wiki}-{wildcards.date}-pages-articles.xml.bz2"
    return f"{mirror}/{wildcards.wiki}/{wildcards.date}/{name}"


def tokenizer_of(wildcards):
    return layout.tokenizer(wildcards.corpus, wildcards.teacher, wildcards.vocabulary)


def tokenizer_before(wildcards):
    """The tokenizer that an amplified one adds sub-words to."""
    return layout.tokenizer(
        wildcards.corpus,
        wildcards.teacher,
        layout.amplified_from(wildcards.vocabulary),
    )


# Vocabularies


def rule_of(wildcards):
    return config["vocabularies"][wildcards.vocabulary]


def corpora_together(wildcards):
    """The corpus itself, and those whose sub-words stay beside its own."""
    others = rule_of(wildcards).get("languages", [])
    return list(dict.fromkeys([wildcards.corpus, *others]))


def full_counts(wildcards):
    return layout.prepared(wildcards.corpus, wildcards.teacher, FULL) / "counts"


def texts_of_tasks(language):
    """The training text of each of the experiment's tasks in a language, by the task's name."""
    return {
        name: config["tasks"][name]["train"]
        for name in config["experiment"]["tasks"]
        if config["tasks"][name]["language"] == language
    }


def options_of_tasks(language):
    """Those texts as options."""
    texts = texts_of_tasks(language)
    return options({"task": [f"{name}={file}" for name, file in texts.items()]})


# Models


def local_files(entry):
    """A model's files on this machine are inputs; what a hub has is pinned by its commit."""
    files = Path(entry["model"]).glob("*")
    return sorted(str(file) for file in files if file.is_file())


def teacher_of(wildcards):
    return config["teachers"][wildcards.teacher]


def pretraining_data(part):
    return (
        lambda wildcards: layout.prepared(
            teacher_of(wildcards)["corpus"], wildcards.teacher, FULL
        )
        / part
    )


def conditioning_data(part):
    return (
        lambda wildcards: layout.prepared(wildcards.corpus, wildcards.teacher, FULL)
        / part
    )


def recipe_of(wildcards):
    return config["students"][wildcards.student]


def distillation_teacher(wildcards):
    return layout.teacher(
        wildcards.corpus,
        recipe_of(wildcards)["teacher"],
        layout.taught_with(wildcards.student),
    )


def model_to_start_from(wildcards):
    """The teacher, or the teacher with new sub-words."""
    return layout.teacher(
        wildcards.corpus,
        recipe_of(wildcards)["teacher"],
        layout.vocabulary_of(wildcards.student),
    )


# Distillation


def student_before_its_cut(wildcards):
    """The distilled student that one of vocabulary `post` is cut from."""
    of = recipe_of(wildcards)["of"]
    return layout.student(of, layout.corpus_of(of, wildcards.language), "distilled")


def amplified_students():
    return [
        name
        for name, recipe in config["students"].items()
        if recipe["vocabulary"] == "amplified"
    ]


def other_students():
    return [name for name in config["students"] if name not in amplified_students()]


def distillation_data(part):
    return (
        lambda wildcards: layout.prepared(
            wildcards.corpus,
            recipe_of(wildcards)["teacher"],
            layout.vocabulary_of(wildcards.student),
        )
        / part
    )


# Tasks


def task_of(wildcards):
    return config["tasks"][wildcards.task]


def task_files(wildcards):
    return [
        task_of(wildcards)[split]
        for split in ("train", "validation", "test")
        if split in task_of(wildcards)
    ]


def measuring_threads():
    """All cores of one machine, so that nothing else runs beside a measurement there."""
    # A Slurm job has the cores that it asked for, and is told "all" of those of its node.
    machine = workflow.resource_settings.cores if workflow.is_main_process else None
    return machine or config["measuring"]["threads"]
