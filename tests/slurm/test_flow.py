"""The whole tiny flow as a user runs it on a cluster, and what Slurm kept of each job."""

import re
import subprocess
from itertools import pairwise

import pytest
from conftest import ClusterProject, one_language

from tiny_project import tiny

pytestmark = pytest.mark.timeout(2400)

ON_GPU = {"pretrained_teacher", "distilled_student", "finetuned", "measured"}
ON_CPU = {
    "articles",
    "teacher_tokenizer",
    "sequences",
    "counts",
    "masking",
    "kept",
    "reduced_teacher",
    "vocabulary_report",
    "initial_student",
    "reduced_student",
    "verified_student",
}
# A job's command in a network of its own, with nothing in it; its number is written down.
NO_NETWORK = (
    'if [ "$SLURM_JOB_ID" ] && [ -z "$ALONE" ]; then echo "$SLURM_JOB_ID" >> alone.txt; '
    'ALONE=yes exec unshare --net bash -c "$BASH_EXECUTION_STRING"; fi; '
)


def can_be_alone() -> bool:
    """Whether a process can be given a network of its own here."""
    return subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0


def every_step(name: str) -> dict:
    """One language and two students, one cut before and one after its training; two seeds."""
    config = one_language(name)
    students = tiny(name)["students"]
    config["students"] = {student: students[student] for student in ("pre", "full", "post")}
    config["experiment"] |= {"systems": ["pre", "post"], "seeds": [1, 2]}
    return config


@pytest.fixture(scope="module")
def flow(cluster, tmp_path_factory) -> tuple[ClusterProject, str]:
    """The project after the run, and what the run printed."""
    project = ClusterProject(tmp_path_factory.mktemp("flow"), cluster)
    project.configure(every_step("flow"))
    if can_be_alone():
        with (project.folder / "workflow/rules/common.smk").open("a") as rules:
            rules.write(f"\nshell.prefix({NO_NETWORK!r})\n")
    for rule in ("finetuned", "measured"):
        project.edit_profile("set-resources", rule, gpu_model="h200")
    # Less than the four GPUs of the cluster, and than the two students that could train at once.
    project.edit_profile("resources", gpu=1)
    status, printed = project.finish(timeout=2000)
    assert status == 0, printed[-6000:]
    return project, printed


def asked(printed: str) -> dict[str, dict[str, str]]:
    """What snakemake says that it asked of Slurm for each job, by the job's number in Slurm."""
    jobs = {}
    for text in re.split(r"(?m)^(?=(?:local)?rule \w+:$)", printed)[1:]:
        number = re.search(r"^    jobid: (\d+)$", text, re.M)[1]
        jobs[number] = {
            "rule": re.search(r"rule (\w+):", text)[1],
            "threads": (re.search(r"^    threads: (\d+)$", text, re.M) or [0, "1"])[1],
        } | dict(re.findall(r"(\w+)=([^,\n]+)", re.search(r"resources: (.*)", text)[1]))
    submitted = re.findall(r"Job (\d+) has been submitted with SLURM jobid (\d+)", printed)
    return {slurm: jobs[number] for number, slurm in submitted}


def test_each_job_got_what_its_rule_asked_for(flow):
    project, printed = flow
    wanted = asked(printed)
    columns = ("jobid", "state", "partition", "reqtres", "timelimitraw", "comment")
    found = {row[0]: row[1:] for row in project.cluster.jobs(project.folder, *columns)}
    assert set(wanted) <= set(found)
    for number, (state, partition, tres, limit, comment) in found.items():
        tres = dict(item.split("=") for item in tres.split(","))
        assert state == "COMPLETED"
        if number not in wanted:
            # A bundle of fine-tunings and a measurement, one after the other.
            assert comment.startswith("rule_evaluation"), comment
            assert partition == "gpu"
            assert tres["gres/gpu:h200"] == "1"
            continue
        job = wanted[number]
        assert comment.startswith(f"rule_{job['rule']}")
        assert partition == job["slurm_partition"]
        assert tres["mem"].removesuffix("M") == job["mem_mb"]
        assert tres["cpu"] == job["threads"]
        assert tres.get("gres/gpu") == job.get("gpu")
        assert limit == job["runtime"]
    assert {wanted[number]["rule"] for number in wanted if found[number][1] == "cpu"} == ON_CPU
    on_gpu = {wanted[number]["rule"] for number in wanted if found[number][1] == "gpu"}
    assert {"pretrained_teacher", "distilled_student"} <= on_gpu <= ON_GPU


def test_short_jobs_of_a_system_share_one_job(flow):
    project, _ = flow
    comments = [comment for (comment,) in project.cluster.jobs(project.folder, "comment")]
    # Of each of two systems: fine-tuning with two seeds, and measuring.
    assert sum(comment.startswith("rule_evaluation") for comment in comments) == 2
    assert not [comment for comment in comments if comment.startswith(("rule_fine", "rule_mea"))]
    assert len(list(project.folder.glob("results/finetuned/qaa-upos/*/seed-*/metrics.json"))) == 4
    assert len(list(project.folder.glob("results/measured/qaa/*.json"))) == 2
    # As many as the plan says of a folder in which nothing is made.
    options = ("-n", "--forceall", "--profile", "slurm", "--configfile", "config/test.yaml")
    planned = project.run(*options).stdout
    assert f"jobs for the queue: {len(comments)}, which do {len(comments) + 4} of" in planned


def test_no_more_gpus_at_once_than_the_profile_allows(flow):
    project, _ = flow
    columns = ("start", "end", "partition")
    spans = [
        (start, end)
        for start, end, partition in project.cluster.jobs(project.folder, *columns)
        if partition == "gpu"
    ]
    spans.sort()
    assert len(spans) == 5
    for (_, end), (start, _) in pairwise(spans):
        assert end <= start


def test_nothing_on_a_node_needs_a_network(flow):
    project, _ = flow
    if not can_be_alone():
        pytest.skip("no network namespaces here: the jobs had the machine's network")
    alone = (project.folder / "alone.txt").read_text().split()
    assert set(alone) == {job for (job,) in project.cluster.jobs(project.folder, "jobid")}


def test_everything_is_there_and_nothing_is_made_twice(flow):
    project, printed = flow
    assert "Error" not in printed
    assert (project.folder / "results/flow/report.html").stat().st_size > 50_000
    assert (project.folder / "results/flow/models/pre-qaa/model.safetensors").exists()
    assert not list(project.folder.glob("results/**/.*.partial"))
    status, printed = project.finish()
    assert status == 0
    assert "Nothing to be done" in printed


def test_each_job_has_its_log(flow):
    project, printed = flow
    for path in re.findall(r"^    log: (.*)$", printed, re.M):
        rule = re.search(r"logs/(\w+)", path)[1]
        assert rule in ON_GPU | ON_CPU | {"demo_world", "settings", "dump", "tables"} | {
            "plots",
            "released_model",
            "report",
        }
        if rule != "settings":
            assert (project.folder / path).exists(), path


def test_clones_on_a_cluster_share_an_output_cache(cluster, tmp_path):
    (tmp_path / "cache").mkdir()
    documents = "results/corpora/qaa/documents"
    attempts, read = [], []
    for name in ("first", "second"):
        clone = ClusterProject(tmp_path / name, cluster)
        clone.environment["SNAKEMAKE_OUTPUT_CACHE"] = str(tmp_path / "cache")
        clone.configure(one_language("shared"))
        status, printed = clone.finish(documents, "--cache")
        assert status == 0, printed
        assert clone.states() == ["COMPLETED"]
        attempts.append(len(list(clone.folder.glob("results/costs/corpora/qaa/*.jsonl"))))
        read.append((clone.folder / documents / "characters.json").read_bytes())
    # The stage itself ran in the first clone alone.
    assert attempts == [1, 0]
    assert read[0] == read[1]
