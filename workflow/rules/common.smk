# The settings, the paths that follow from them, and what rules ask of both.

import json
import os
import re
import sys
import time
from functools import partial
from pathlib import Path

import eliquare
from eliquare import resources as job_resources
from eliquare.cli import boundary, version
from eliquare.config import inputs, load, options, shared
from eliquare.config.corpus import DocumentFilter
from eliquare.config.model import ExtensionRule, SelectionRule
from eliquare.config.sources import FETCHED
from eliquare.io import InputError, atomic_write
from eliquare.paths import DEMO, DUMPS, FULL, Paths
from snakemake.exceptions import WorkflowError

# Stages run with this Python and this package, also where neither is activated or installed.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]),
    PYTHONPATH=str(Path(eliquare.__file__).parents[1]),
)
if workflow.remote_exec:
    # A compute node often has no internet: a file that is not on the disk is an error at once.
    os.environ.update(HF_HUB_OFFLINE="1")


STARTED = time.time()


def read_settings():
    source = ", ".join(map(str, workflow.configfiles)) or "--config"
    # The user's to fix, so there is no traceback: one line for each mistake.
    with boundary():
        if set("{}") & set(f"{Path.cwd()}{workflow.basedir}"):
            raise InputError(
                f"{Path.cwd()}: Snakemake takes '{{' and '}}' in the path of a project for its own; "
                "move the project"
            )
        if workflow.is_main_process:
            for file in workflow.configfiles:
                # Of a key that stands twice, Snakemake takes the last without a word.
                load.read_yaml(file)
        settings = load.complete(config, source)
        inputs.check_files(settings, source)
        if workflow.is_main_process:
            shared.check_shared(settings, source, Path("results"))
    return settings


settings = read_settings()
# The same as plain values, for lookup().
completed = load.dump(settings)
paths = Paths(settings)


# In the rules, <results> and <logs> stand for these folders.
pathvars:
    results=str(paths.results),
    logs="logs/smoke" if settings.smoke else "logs",


onstart:
    # Not run by a dry run, a lint or a report, nor by the jobs' own Snakemake.
    from earlier_jobs import begin

    begin(not workflow.local_exec, workflow.overwrite_workdir)


onsuccess:
    from stamps import record

    record()


onerror:
    # All that could not be fetched, in one list, below whatever else was printed.
    from not_fetched import print_missing
    from stamps import record

    print_missing(STARTED)
    record()


if workflow.is_main_process:
    # Before Snakemake looks at them; where no project was copied, nothing is changed.
    from stamps import settle

    settle()


def one_of(*names):
    """Return a wildcard constraint: one of these names, or nothing at all."""
    return "|".join(re.escape(name) for some in names for name in some) or "(?!)"


# The priority of the rules on the way to a student, which takes longest: they start first.
FIRST = 1

# Memory and time of jobs

# The most minutes that a job may ask for on this cluster; None on one machine.
defaults = workflow.resource_settings.default_resources or {}
LONGEST_JOB = getattr(defaults.get("longest_job"), "value", None)
if (
    workflow.is_main_process
    and LONGEST_JOB is None
    and (defaults.get("slurm_account") or defaults.get("slurm_partition"))
):
    # Snakemake takes them from the command line in place of the profile's, all of them.
    print(
        "warning: default-resources has no longest_job, so trainings do not save and stop before "
        "their time is over; write account and partition into workflow/profiles/slurm/config.yaml, "
        "not into --default-resources",
        file=sys.stderr,
    )
memory = job_resources.memory
minutes = partial(job_resources.minutes, longest=LONGEST_JOB)
training_memory = job_resources.training_memory
stored_parameters = job_resources.stored_parameters
training_minutes = partial(
    job_resources.training_minutes,
    max_length=settings.sequences.max_length,
    longest=LONGEST_JOB,
)


def execution(training, resources):
    """Return the options of a training that change nothing of its result.

    On a cluster it saves its state and ends by itself two minutes before its job's time is over.
    """
    words = [*options.execution(training), "--threads", training.threads]
    # Before the inputs are there, the time is not known.
    if LONGEST_JOB and isinstance(resources.runtime, int):
        words += ["--max-minutes", max(resources.runtime - 2, 1)]
    return words


def requeue(wildcards, resources):
    """Return what follows a training's command: after exit code 75 (state saved) back in the queue.

    Where Slurm does not allow that, the job counts as failed, and the profile's retries submit it.
    """
    if not LONGEST_JOB:
        return ""
    again = 'if [ $code = 75 ] && scontrol requeue "$SLURM_JOB_ID"; then sleep 60; fi'
    return f"|| {{ code=$?; {again}; exit $code; }}"


# Corpora

PAGES = "pages-articles.xml.bz2"


def languages_from(source):
    return [code for code, entry in settings.languages.items() if entry.corpus.source == source]


def corpus_of(wildcards):
    return settings.languages[wildcards.corpus].corpus


def filter_of(wildcards):
    """Return the options of the documents that are dropped."""
    corpus = corpus_of(wildcards)
    code = settings.language_of(wildcards.corpus)
    identify = {"identify": code if corpus.identify else None}
    return options.words(corpus, DocumentFilter) + options.words(identify)


def sampling_of(wildcards):
    """Return the options of how the languages of a mixture are sampled."""
    mixture = settings.mixtures[wildcards.corpus]
    weights = [mixture.weights[code] for code in mixture.languages] if mixture.weights else []
    return options.words({"alpha": mixture.alpha, "weights": weights})


def mirror_of(wildcards):
    """Return the mirror of a wiki: that of the first language that takes it."""
    for code in languages_from("dump"):
        if str(paths.dump(code)) == f"{DUMPS}/{wildcards.wiki}-{wildcards.date}-{PAGES}":
            return settings.languages[code].corpus.mirror
    raise ValueError(f"no language takes {wildcards.wiki} of {wildcards.date}")


def demo_mirror(wildcards):
    """Return the dump in the demo's mirror, which the workflow writes; other mirrors are there."""
    if settings.demo is None or mirror_of(wildcards) != f"{DEMO}/mirror":
        return []
    wiki, date = wildcards.wiki, wildcards.date
    return f"{DEMO}/mirror/{wiki}/{date}/{wiki}-{date}-{PAGES}"


def sequences_options(wildcards):
    return options.words(
        {
            "language": settings.language_of(wildcards.corpus),
            "max_length": settings.sequences.max_length,
            "validation_fraction": settings.sequences.validation_fraction,
        }
    )


# Vocabularies and tasks


def corpora_of_vocabulary(wildcards):
    """Return the corpus itself, and those whose tokens stay beside its own."""
    others = settings.vocabularies[wildcards.vocabulary].languages
    return list(dict.fromkeys([wildcards.corpus, *others]))


def training_texts(language):
    """Return what holds the training files of the experiment's tasks in a language."""
    return paths.task_inputs([language], ["train"])


def named_texts(language):
    """Return the option with those files, by the task's name."""
    texts = [f"{name}={settings.tasks[name].train}" for name in paths.tasks([language])]
    return options.words({"tasks": texts})


def tasks_to_fetch(optional):
    return [name for name, task in paths.fetched_tasks().items() if task.optional == optional]


def task_files(language):
    """Return what holds all files of the experiment's tasks in a language."""
    return paths.task_inputs([language])


# Models and trainings


def teachers_from(*sources):
    return [name for name, teacher in settings.teachers.items() if teacher.source in sources]


def local_files(model):
    """Return the files of a model on this machine; a hub's are pinned by their commit."""
    return sorted(str(file) for file in Path(model or "").glob("*") if model and file.is_file())


def source_of(entry):
    return options.words({"model": entry.model, "revision": entry.revision})


def teacher_source(wildcards):
    teacher = settings.teachers[wildcards.teacher]
    return source_of(teacher) + options.sentence(teacher)


def teacher_training(wildcards):
    return settings.teachers[wildcards.teacher].training


def new_parameters(wildcards):
    teacher = settings.teachers[wildcards.teacher]
    return job_resources.new_parameters(teacher, teacher.vocab_size)


def pretraining_data(wildcards, part):
    corpus = settings.teachers[wildcards.teacher].corpus
    return paths.prepared(corpus, wildcards.teacher, FULL) / part


def recipe(wildcards):
    return settings.students[wildcards.student]


def distillation_data(wildcards, part):
    vocabulary = paths.vocabulary_of(wildcards.student)
    return paths.prepared(wildcards.corpus, recipe(wildcards).teacher, vocabulary) / part


def extended_teacher(wildcards):
    """Return the model that a student with an extended vocabulary starts from."""
    student = recipe(wildcards)
    if student.extension is None:
        return []
    return paths.teacher(wildcards.corpus, student.teacher, student.extension)


def original_student(wildcards):
    """Return the distilled student that a reduced one comes from."""
    return paths.student(*paths.origin(wildcards.student, wildcards.language))


def students_that(have):
    return [name for name, student in settings.students.items() if have(student)]


# Evaluation


def finetuning_minutes(wildcards, input, attempt):
    tasks = [settings.tasks[name] for name in paths.tasks([wildcards.language])]
    return job_resources.finetuning_minutes(
        attempt,
        input.model,
        [*input.files, *filter(None, [input.get("unlabelled")])],
        max(
            task.finetuning.num_train_epochs * len(task.finetuning.learning_rates) for task in tasks
        ),
        len(settings.experiment.seeds),
        longest=LONGEST_JOB,
    )


def teacher_of_tasks(wildcards):
    """Return the scores of the fine-tuned teacher that teaches a system, beside its predictions."""
    taught = paths.task_distillation(wildcards.system)
    return paths.scores(wildcards.language, taught.teacher) if taught else []


def counts_of_student(wildcards):
    """Return the counts with the tokens of a student; those of its full vocabulary if cut later."""
    original, corpus = paths.origin(wildcards.student, wildcards.language)
    vocabulary = paths.vocabulary_of(original)
    return paths.prepared(corpus, settings.students[original].teacher, vocabulary) / "counts"


def kept_models(wildcards):
    """Return what fine-tuned models are beside: the scores of the student, if any are kept."""
    if not paths.kept_tasks(wildcards.student, wildcards.language):
        return []
    return paths.scores(wildcards.language, wildcards.student)


def exports_of(wildcards):
    """Return the other forms of a student, if its recipe asks for any."""
    if not paths.export(wildcards.student):
        return []
    return paths.exports(wildcards.student, wildcards.language)


def all_cores():
    """Return the cores of this machine that Snakemake may use; 1 where jobs run elsewhere.

    A job on a cluster has the cores that it asked for, and is told of all those of its node.
    """
    try:
        return workflow.cores if workflow.is_main_process else 1
    except WorkflowError:
        return 1
