# Memory and time of jobs, from the size of what they read and the shape of what they train.
#
# Each figure is what was measured on the demo and on a model of mBERT's size, two to five times
# over; each retry has as much again. A profile's set-resources puts its own in place of any.

# Floating-point operations that a GPU really does in a second: a quarter of an A100's 312 T in
# bf16. Only the time asked for depends on it; a training that needs longer goes on afterwards.
OPERATIONS_A_SECOND = 80e12
BYTES_A_PARAMETER = 4
LEAST_BYTES_A_TOKEN = 2
MEGABYTE = 1_000_000


def megabytes(*paths):
    """Size of files and folders; raises FileNotFoundError, which Snakemake takes for "not yet"."""
    return sum(size_of(str(path)) for path in paths) / MEGABYTE


def size_of(path):
    status = os.stat(path)
    if not os.path.isdir(path):
        return status.st_size
    return sum(size_of(entry.path) for entry in os.scandir(path))


def memory(fixed, a_megabyte=0, of=()):
    """Megabytes of memory: so many, and some for each megabyte of the inputs named in ``of``."""
    return lambda wildcards, input, attempt: round(
        attempt * (fixed + a_megabyte * megabytes(*named(input, of)))
    )


def minutes(fixed, a_megabyte=0, of=()):
    """Minutes: so many, and some for each megabyte of the inputs named in ``of``."""
    return lambda wildcards, input, attempt: within_limit(
        attempt * (fixed + a_megabyte * megabytes(*named(input, of)))
    )


def named(input, names):
    """The inputs of these names, as one list; all of them for the name "*"."""
    if names == "*":
        return list(input)
    values = [input[name] for name in names]
    return [
        path
        for value in values
        for path in ([value] if isinstance(value, str) else value)
    ]


def longest_job():
    """The most minutes that a job may ask for on this cluster; None on one machine."""
    limit = (workflow.resource_settings.default_resources or {}).get("longest_job")
    return limit and limit.value


def within_limit(wanted):
    limit = longest_job()
    return round(min(wanted, limit) if limit else wanted)


def training_memory(training_of, models):
    """Megabytes of memory of a masked training: without a GPU in sight it holds everything there."""
    return lambda wildcards, input, attempt: round(
        attempt
        * training_of(wildcards)["gpus"]
        * (4000 + 5 * megabytes(*named(input, models)))
    )


def cores(training_of):
    """Threads of each process of a training, times its processes."""
    return lambda wildcards: training_of(wildcards)["threads"] * processes(training_of)(
        wildcards
    )


def processes(training_of):
    return lambda wildcards: training_of(wildcards)["gpus"]


def recipe_training(wildcards):
    return recipe_of(wildcards)["training"]


def teacher_training(wildcards):
    return teacher_of(wildcards)["training"]


def training_minutes(training_of, models):
    """Minutes of a masked training: the models named in ``models`` read each token, the last of
    them learns (three times the work of reading)."""

    def wanted(wildcards, input, attempt):
        training = training_of(wildcards)
        sizes = [megabytes(input[name]) * MEGABYTE for name in models]
        parameters = [size / BYTES_A_PARAMETER for size in sizes] or [
            shape_parameters(teacher_of(wildcards))
        ]
        a_token = 2 * sum(parameters) + 4 * parameters[-1]
        if training["steps"] is None:
            tokens = training["epochs"] * (
                megabytes(input.sequences) * MEGABYTE / LEAST_BYTES_A_TOKEN
            )
        else:
            sequences = training["batch_size"] * training["accumulation"]
            tokens = training["steps"] * sequences * config["sequences"]["max_length"]
            # A step has so many sequences on each GPU.
            tokens *= training["gpus"]
        seconds = a_token * tokens / OPERATIONS_A_SECOND / training["gpus"]
        return within_limit(attempt * (60 + 2 * seconds / 60))

    return wanted


def shape_parameters(teacher):
    """Parameters of a new model: its embeddings, and 4 h² + 2 h i for each layer."""
    hidden = teacher["hidden_size"]
    layer = 4 * hidden**2 + 2 * hidden * teacher["intermediate_size"]
    return teacher["vocabulary_size"] * hidden + teacher["layers"] * layer


MEGABYTES_OF_MBERT = 700


def finetuning_minutes(wildcards, input, attempt):
    """The estimate for a model of this size, and no more than its part of a bundle."""
    share = megabytes(input.model) / MEGABYTES_OF_MBERT
    wanted = within_limit(attempt * finetuning_estimate(wildcards, share))
    bundled = evaluation(wildcards) is not None
    return round(min(wanted, bundled_minutes())) if bundled else wanted


def finetuning_estimate(wildcards, share=1):
    """A megabyte of task files, ten epochs, a model of mBERT's size: 20 minutes on one GPU."""
    epochs = task_of(wildcards)["finetuning"].get("epochs") or 10
    try:
        files = megabytes(*task_files(wildcards))
    except FileNotFoundError:
        # The demo writes its task files itself; they are small.
        files = 0
    return 30 + 2 * share * files * epochs


THREADS_OF_A_PROCESS = (
    "export OMP_NUM_THREADS=$(({threads} > {resources.processes}"
    " ? {threads} / {resources.processes} : 1)); "
)

# On a cluster, a training saves and stops before its job's time is over, and the job is put back
# into the queue, where it goes on. Where Slurm does not let it, the exit status 75 makes it a
# failed job, which Snakemake submits again.
STOP_IN_TIME = ""
GO_ON_LATER = ""
if longest_job():
    # Two minutes for the start of the job, which the training does not see.
    STOP_IN_TIME = (
        " --max-minutes $(({resources.runtime} > 9 ? {resources.runtime} - 2"
        " : {resources.runtime}))"
    )
    GO_ON_LATER = (
        " || {{ status=$?; if [ $status = 75 ] && scontrol requeue $SLURM_JOB_ID;"
        " then sleep 60; fi; exit $status; }}"
    )
