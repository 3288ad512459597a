# The completed configuration, the paths, and the options of commands.

import json
import re
import shlex

from eliquare import settings
from eliquare.layout import FULL, Layout
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

# What clones share through an output cache, whatever the software. Only where --cache asks for it:
# Snakemake warns of every rule that is marked and not asked for.
SHARED = "omit-software" if workflow.workflow_settings.cache is not None else None

DUMPS = "resources/dumps"
PREPARED = "results/corpora/{corpus}/{teacher}/{vocabulary}"
MASKING = {
    "probability": config["masking"]["probability"],
    "mask_share": config["masking"]["mask"],
    "random_share": config["masking"]["random"],
    "smoothing": config["masking"]["smoothing"],
    "seed": config["masking"]["seed"],
    "max_validation": config["sequences"]["validation_sequences"],
}
SHAPE = (
    "kind",
    "layers",
    "hidden_size",
    "intermediate_size",
    "heads",
    "max_positions",
    "dropout",
)


def options(values):
    """Command-line options from keys and values: sorted, so that the order of keys is nothing."""
    words = []
    for key in sorted(values):
        value = values[key]
        name = f"--{key.replace('_', '-')}"
        if value is True:
            words.append(name)
        elif isinstance(value, list):
            words += [f"{name} {quoted(item)}" for item in value]
        elif isinstance(value, dict):
            words.append(f"{name} {quoted(json.dumps(value, sort_keys=True))}")
        elif value is not None and value is not False:
            words.append(f"{name} {quoted(value)}")
    return " ".join(words)


def quoted(value):
    return shlex.quote(str(value))


def one_of(names):
    """A wildcard constraint: one of these names, or nothing at all."""
    return "|".join(map(re.escape, names)) or "(?!)"


def launcher(training):
    """What starts a training: one process, or one for each GPU."""
    gpus = training["gpus"]
    return (
        f"torchrun --standalone --nproc-per-node {gpus} -m" if gpus > 1 else "python -m"
    )


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


def budget(training):
    """The options of a masked training that decide its result."""
    machine = ("gpus", "threads", "checkpoint_minutes")
    return {key: value for key, value in training.items() if key not in machine}


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


def wiki_of(code):
    entry = config["languages"][code]["corpus"]
    return entry.get("wiki", f"{code.replace('-', '_')}wiki")


def dump_of(wildcards):
    """The dump of a language: a file on disk, or a download."""
    entry = corpus_of(wildcards)
    if "file" in entry:
        return entry["file"]
    return f"{DUMPS}/{wiki_of(wildcards.corpus)}-{entry['date']}-pages-articles.xml.bz2"


def mirror_of(wildcards):
    """The mirror of a wiki, from the first language that takes it."""
    for code in by_source("dump"):
        entry = config["languages"][code]["corpus"]
        if wiki_of(code) == wildcards.wiki and entry["date"] == wildcards.date:
            return entry["mirror"]
    raise ValueError(f"no language takes {wildcards.wiki} of {wildcards.date}")


def generated_mirror(wildcards):
    """The demo's mirror is made by the workflow itself; any other is there before."""
    mirror = mirror_of(wildcards)
    if "world" not in config or mirror != "resources/demo/mirror":
        return []
    name = f"{wildcards.wiki}-{wildcards.date}-pages-articles.xml.bz2"
    return f"{mirror}/{wildcards.wiki}/{wildcards.date}/{name}"


def filter_options(wildcards):
    entry = corpus_of(wildcards)
    return {
        "min_characters": entry["min_characters"],
        "min_documents": entry["min_documents"],
        "near_duplicates": "yes" if entry["near_duplicates"] else "no",
    }


def tokenizer_of(wildcards):
    return layout.tokenizer(wildcards.corpus, wildcards.teacher, wildcards.vocabulary)


def sequences_options(corpus):
    """The options that decide the sequences of a corpus, whatever its tokenizer."""
    return {
        "language": corpus if corpus in config["languages"] else None,
        "max_length": config["sequences"]["max_length"],
        "validation_share": config["sequences"]["validation_share"],
    }


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


def other_teachers(wildcards):
    """The teachers of a student beside its own, in the order of their names."""
    own = recipe_of(wildcards)["teacher"]
    return [
        layout.teacher(wildcards.corpus, name, layout.taught_with(wildcards.student))
        for name in sorted(recipe_of(wildcards)["teachers"] or [])
        if name != own
    ]


def options_of_teachers(wildcards):
    """All teachers but the first as options, and the weight of each, the first one's first."""
    recipe = recipe_of(wildcards)
    if not recipe["teachers"]:
        return {}
    own = recipe["teacher"]
    names = [own, *(name for name in sorted(recipe["teachers"]) if name != own)]
    return {
        "teacher": [str(path) for path in other_teachers(wildcards)],
        "teacher_weight": [recipe["teachers"][name] for name in names],
    }


def model_to_start_from(wildcards):
    """The teacher, or the teacher with new sub-words."""
    return layout.teacher(
        wildcards.corpus,
        recipe_of(wildcards)["teacher"],
        layout.vocabulary_of(wildcards.student),
    )


def student_options(wildcards):
    """The options that shape a student, and say what it starts as."""
    recipe = recipe_of(wildcards)
    keys = ("layers", "hidden_size", "intermediate_size", "heads", "initialisation")
    return options(
        {key: recipe[key] for key in keys} | {"seed": recipe["training"]["seed"]}
    )


def pretraining_options(teacher):
    """The options of a training from nothing."""
    return options({key: teacher[key] for key in SHAPE} | budget(teacher["training"]))


# Distillation


def distillation_options(wildcards):
    """The options that decide the result of a distillation."""
    recipe = recipe_of(wildcards)
    return options(
        recipe["objective"]
        | budget(recipe["training"])
        | {"freeze": recipe["freeze"], "fraction": recipe["data_fraction"]}
        | options_of_teachers(wildcards)
    )


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


def finetuning_of(wildcards):
    return {
        key: value
        for key, value in task_of(wildcards)["finetuning"].items()
        if key != "threads"
    }


def measuring_threads():
    """All cores of one machine, so that nothing else runs beside a measurement there."""
    # A Slurm job has the cores that it asked for, and is told "all" of those of its node.
    machine = workflow.resource_settings.cores if workflow.is_main_process else None
    return machine or config["measuring"]["threads"]
