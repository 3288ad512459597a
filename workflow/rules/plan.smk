# The table that a dry run prints instead of a paragraph for each job; `-n -p` prints these.

from eliquare import plan
from snakemake.logging import LogEvent, logger


class PlanTable:
    """A filter of Snakemake's log that leaves of a dry run the table of its plan."""

    def __init__(self):
        self.shown = False

    def filter(self, record):
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO and hasattr(record, "stats") and not self.shown:
            self.shown = True
            # Without its event no formatter takes it for Snakemake's own table.
            record.event = None
            record.msg = (
                f"{table_of(workflow.dag)}\n{queue_of(workflow.dag)}\n"
                "Each job in full: snakemake -n -p …"
            )
            return True
        repeated = str(record.msg).startswith(
            ("Reasons:\n", "Some jobs were triggered by")
        )
        return (
            event not in (LogEvent.RUN_INFO, LogEvent.JOB_INFO, LogEvent.GROUP_INFO)
            and not repeated
        )


def table_of(dag):
    """The plan of Snakemake's graph of jobs, in the order of the flow."""
    found = plan.Plan()
    running = set(dag.needrun_jobs(exclude_finished=False))
    for level in dag.toposorted():
        for job in sorted(level, key=lambda job: job.rule.name):
            if job.rule.norun:
                continue
            if job in running:
                found.add_run(job.rule.name, why(job, dag.reason(job)))
            elif all(os.path.lexists(output) for output in job.output):
                found.add_there(job.rule.name)
    return found.table()


def queue_of(dag):
    """How many jobs a cluster's queue would hold in all; nothing where there is no cluster."""
    # All that a dry run still knows of the executor that it stands for.
    if not workflow.execution_settings.use_threads:
        return ""
    here = workflow._localrules
    jobs = [
        job
        for job in dag.needrun_jobs()
        if job.rule.name not in here and not job.rule.norun
    ]
    bundles = {dag.get_job_group(job) or job for job in jobs}
    return f"jobs for the queue: {len(bundles):,}, which do {len(jobs):,} of these\n"


def why(job, reason):
    """The one of Snakemake's reasons that explains the others."""
    reasons = {
        plan.ASKED: reason.forced,
        plan.HALF_MADE: reason._incomplete_output,
        plan.NOT_THERE: reason._missing_output,
        plan.VERSION: changed_params(job, reason) == ["version"],
        plan.SETTINGS: reason.params_changed,
        plan.OTHER_INPUTS: reason.input_changed,
        plan.NEWER_INPUT: reason._updated_input,
        plan.ENVIRONMENT: reason.software_stack_changed,
        plan.UPSTREAM: reason._updated_input_run,
    }
    return next((words for words, holds in reasons.items() if holds), plan.UNKNOWN)


def changed_params(job, reason):
    """Names of the parameters that have another value than when the output was made."""
    new = reason.params_changed.only_new
    return [name for name, value in job.params.items() if repr(value) in new]


in_full = workflow.output_settings.verbose or workflow.output_settings.printshellcmds
if workflow.output_settings.dryrun and not in_full:
    logger.addFilter(PlanTable())
