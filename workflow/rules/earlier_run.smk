# The same command goes on after a killed run: nobody's lock is removed, and what it submitted is
# neither forgotten nor done twice.

import atexit

from eliquare import earlier_run

RUNS = Path(".snakemake/runs")

if workflow.is_main_process and not workflow.output_settings.dryrun:
    submits = workflow.resource_settings.nodes is not None
    try:
        earlier_run.clear(
            RUNS, Path(".snakemake/locks"), Path.cwd() if submits else None
        )
    except Failure as failure:
        print(f"failed: {failure}", file=sys.stderr, flush=True)
        os._exit(1)
    atexit.register(earlier_run.sign_in(RUNS).unlink, missing_ok=True)
