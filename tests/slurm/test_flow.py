"""All jobs of a flow as a user tries it on a cluster, and what Slurm kept of each.

The stages are stubs: tests/workflow/test_flow.py has them.
"""

import re
from itertools import pairwise

import pytest

from slurm_project import ClusterProject, one_language
from stub_project import stub
from tiny_project import tiny

pytestmark = pytest.mark.timeout(2400)

ON_GPU = {"pretrain_teacher", "distill", "finetune", "benchmark", "evaluate_intrinsic"}
ON_CPU = {
    "extract_documents",
    "sample_held_out",
    "train_tokenizer",
    "tokenize",
    "fix_masks",
    "select_vocabulary",
    "reduce_teacher",
    "vocabulary_report",
}


def every_step(name: str) -> dict:
    """Return one language and one student, with two seeds."""
    config = one_language(name)
    config["students"] = {"pre": tiny(name)["students"]["pre"]}
    config["experiment"]["seeds"] = [1, 2]
    return config


@pytest.fixture(scope="module")
def flow(cluster, tmp_path_factory) -> tuple[ClusterProject, str]:
    """The project after a smoke run, and what the run printed."""
    project = ClusterProject(tmp_path_factory.mktemp("flow"), cluster)
    project.configure(every_step("flow"))
    stub(project)
    for rule in ("finetune", "benchmark"):
        project.edit_profile("set-resources", rule, gpu_model="h200")
    # Less than the four GPUs of the cluster: a student is fine-tuned and measured in turn.
    project.edit_profile("resources", gpu=1)
    status, printed = project.finish("--config", "smoke=true", timeout=2000)
    assert status == 0, printed[-6000:]
    return project, printed


def test_each_job_got_what_its_rule_asked_for(flow):
    project, _ = flow
    columns = ("state", "partition", "reqtres", "timelimitraw", "comment")
    jobs = project.cluster.jobs(project.folder, *columns)
    rules = {"cpu": set(), "gpu": set()}
    for state, partition, requested, limit, comment in jobs:
        assert state == "COMPLETED"
        rule = re.match(r"rule_(\w+?)(_wildcards|$)", comment)[1]
        rules[partition].add(rule)
        tres = dict(item.split("=") for item in requested.split(","))
        assert int(limit) >= 30
        assert int(tres["mem"].removesuffix("M")) >= 2000
        assert ("gres/gpu" in tres) == (partition == "gpu")
        if rule in ("finetune", "benchmark"):
            assert tres["gres/gpu:h200"] == "1"
        if rule in ("tokenize", "extract_documents"):
            assert tres["cpu"] == "1"  # for so little text
    assert rules == {"cpu": ON_CPU, "gpu": ON_GPU}
    # One job per system and language, whatever the tasks and seeds; a smoke run has one seed.
    assert sum("rule_finetune" in comment for *_, comment in jobs) == 1
    (log,) = project.folder.glob("logs/smoke/finetune/*.log")
    assert " --seeds 1 --" in log.read_text()


def test_no_more_gpus_at_once_than_the_profile_allows(flow):
    project, _ = flow
    columns = ("start", "end", "partition")
    spans = sorted(
        (start, end)
        for start, end, partition in project.cluster.jobs(project.folder, *columns)
        if partition == "gpu"
    )
    assert len(spans) == 5
    for (_, end), (start, _) in pairwise(spans):
        assert end <= start


def test_everything_is_there_and_nothing_is_made_twice(flow):
    project, printed = flow
    assert "Error" not in printed
    smoke = project.folder / "results/smoke"
    assert (smoke / "flow/report.html").exists()
    assert (smoke / "flow/models/pre-qaa").exists()
    assert [*(project.folder / "results").iterdir()] == [smoke]
    for rule in ON_GPU | ON_CPU:
        assert list(project.folder.glob(f"logs/smoke/{rule}/*.log")), rule
    status, printed = project.finish("--config", "smoke=true")
    assert status == 0
    assert "Nothing to be done" in printed
