# Bundles: many short jobs in one of the queue.

EVALUATION = "evaluation"


def evaluation(wildcards):
    """The bundle of a short job that scores or measures a system in one language.

    What is in a bundle needs the same model, so that no job waits for another's. The profile says
    how many jobs make one bundle (group-components); a long fine-tuning stands for itself.
    """
    if "task" in wildcards.keys():
        language = task_of(wildcards)["language"]
        if finetuning_estimate(wildcards) > bundled_minutes():
            return None
    else:
        language = wildcards.language
    bundle = f"{EVALUATION}-{wildcards.system}-{language}"
    # Snakemake looks a bundle's size up under this name.
    workflow.parent_groupids[bundle] = EVALUATION
    return bundle


def bundled_minutes():
    """The most minutes of a job in a bundle: all of them, one after the other, fit in one job."""
    jobs = workflow.group_settings.group_components.get(EVALUATION, 1)
    return (longest_job() or 24 * 60) / jobs
