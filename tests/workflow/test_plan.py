"""What `snakemake -n` prints: the table of the plan, and how the plan grows."""

import re
import sys

from tiny_project import PROJECT, Project, table, tiny

sys.path.insert(0, str(PROJECT / "tests" / "benchmarks"))
import plan as benchmark


def test_the_table_counts_as_snakemake_does(tmp_path):
    made = Project(tmp_path)
    path = str(made.configure(tiny("table")))
    ours = table(made.run("-n", "--configfile", path).stdout)
    full = made.run("-n", "-p", "--configfile", path).stdout
    stats = full.partition("Job stats:")[2].partition("\n\n")[0]
    theirs = {step: int(jobs) for step, jobs in re.findall(r"^(\w+) +(\d+)$", stats, re.M)}
    # The target has nothing to do, and is no step.
    total = theirs.pop("total") - theirs.pop("default")
    assert sum(theirs.values()) == total > 30
    assert {step: run for step, (run, _, _) in ours.items()} == theirs
    assert {why for _, _, why in ours.values()} == {"not there yet"}


def test_snakemake_starts_without_warnings(tmp_path):
    made = Project(tmp_path)
    printed = made.run("-n", "--configfile", str(made.configure(tiny("quiet")))).stdout
    assert "eligible for caching" not in printed
    # A paragraph a job is printed on demand alone.
    assert "rule finetuned:" not in printed


def planned_inputs(folder, languages: int) -> tuple[int, int]:
    """Jobs of a plan, and the input files of all of them together."""
    folder.mkdir()
    benchmark.project(folder, PROJECT, benchmark.configuration(languages))
    workflow = object.__new__(Project)
    workflow.folder = folder
    printed = workflow.run("-n", "-p", "--configfile", "config/plan.yaml").stdout
    inputs = re.findall(r"^ +input: (.*)$", printed, re.M)
    jobs = len(re.findall(r"^(?:local)?rule ", printed, re.M))
    return jobs, sum(len(files.split(", ")) for files in inputs)


def test_the_plan_grows_with_the_jobs(tmp_path):
    jobs, inputs = planned_inputs(tmp_path / "few", 5)
    more_jobs, more_inputs = planned_inputs(tmp_path / "more", 15)
    assert 2.8 < more_jobs / jobs < 3.2
    assert more_inputs / inputs < 1.1 * more_jobs / jobs


def test_short_jobs_are_bundled_for_the_queue(tmp_path):
    made = Project(tmp_path)
    config = tiny("bundled")
    config["experiment"] |= {"tasks": ["qaa-upos", "qaa-topic"], "seeds": [1, 2, 3]}
    path = str(made.configure(config))

    def queued(size: int) -> tuple[int, int]:
        """Jobs for the queue, and jobs of the plan that these do."""
        options = ["--profile", "workflow/profiles/slurm"]
        options += ["--group-components", f"evaluation={size}", "--configfile", path]
        printed = made.run("-n", *options).stdout
        found = re.search(r"jobs for the queue: ([\d,]+), which do ([\d,]+) of these", printed)
        assert found, printed
        return int(found[1]), int(found[2])

    alone, jobs = queued(1)
    assert alone == jobs
    # Three systems, each fine-tuned on two tasks with three seeds and measured once.
    assert queued(12) == (jobs - 3 * 7 + 3, jobs)
    assert queued(4) == (jobs - 3 * 7 + 3 * 2, jobs)
    assert "queue" not in made.run("-n", "--configfile", path).stdout
