"""The profile for Slurm against the rules, where Snakemake says nothing; needs no cluster."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from eliquare.cost import GPU_STAGES
from eliquare.reporting.costs import STEPS
from tiny_project import PROJECT

PROFILE = yaml.safe_load((PROJECT / "workflow/profiles/slurm/config.yaml").read_text())
RULES = {
    rule: text
    for file in sorted((PROJECT / "workflow/rules").glob("*.smk"))
    for rule, text in re.findall(
        r"^ *rule (\w+):\n(.*?)(?=^ *rule \w+:|\Z)", file.read_text(), re.M | re.S
    )
}
# What snakemake-executor-plugin-slurm reads of a job, and the limit that the rules read.
RESOURCES = {
    "clusters",
    "constraint",
    "cpus_per_gpu",
    "cpus_per_task",
    "gpu",
    "gpu_model",
    "gres",
    "longest_job",
    "mem_mb",
    "mem_mb_per_cpu",
    "nodes",
    "qos",
    "runtime",
    "slurm_account",
    "slurm_extra",
    "slurm_partition",
}


def options() -> set[str]:
    """Every long option of snakemake and its Slurm plugin, without the dashes."""
    snakemake = Path(sys.executable).parent / "snakemake"
    printed = subprocess.run([snakemake, "--help"], capture_output=True, text=True).stdout
    return set(re.findall(r"--([a-z][a-z-]+)", printed))


def test_every_key_is_an_option_of_snakemake():
    assert set(PROFILE) <= options()


@pytest.mark.parametrize("key", ["set-resources", "set-threads"])
def test_every_named_rule_is_a_rule(key):
    assert set(PROFILE.get(key, {})) <= set(RULES)


def test_every_resource_is_one_that_something_reads():
    named = set(PROFILE["default-resources"]) | set(PROFILE["resources"])
    for resources in PROFILE["set-resources"].values():
        named |= set(resources)
    set_by_rules = set(re.findall(r"^        (\w+)=", "\n".join(RULES.values()), re.M))
    assert named <= RESOURCES | set_by_rules


def test_a_misspelt_key_would_be_found():
    assert "set-resource" not in options()
    assert "destilled_student" not in RULES


def test_the_profiles_in_the_reference_name_what_there_is():
    text = (PROJECT / "config/README.md").read_text()
    profiles = [
        found
        for found in map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", text, re.S))
        if "set-resources" in found
    ]
    assert len(profiles) == 3
    for profile in profiles:
        assert set(profile) <= options()
        assert set(profile["set-resources"]) == set(PROFILE["set-resources"])
        # They share jobs.
        assert profile["set-resources"]["finetuned"] == profile["set-resources"]["measured"]
        for resources in [profile["default-resources"], *profile["set-resources"].values()]:
            assert set(resources) <= RESOURCES


def test_every_rule_with_a_gpu_has_a_gpu_partition():
    with_gpu = {rule for rule, text in RULES.items() if re.search(r"^ +gpu=", text, re.M)}
    in_gpu = {
        rule
        for rule, resources in PROFILE["set-resources"].items()
        if resources["slurm_partition"] == "gpu"
    }
    assert (
        with_gpu
        == in_gpu
        == {
            "pretrained_teacher",
            "conditioned_teacher",
            "distilled_student",
            "amplified_student",
            "finetuned",
            "measured",
        }
    )


def test_every_step_has_a_line_in_the_costs():
    stages = {
        rule: set(re.findall(r"\beliquare\.[a-z_.]+[a-z]", text.partition("shell:")[2]))
        for rule, text in RULES.items()
    }
    assert set().union(*stages.values()) == set(STEPS)
    with_gpu = PROFILE["set-resources"]
    assert set().union(*(stages[rule] for rule in with_gpu)) == set(GPU_STAGES)


def test_what_needs_the_internet_runs_where_snakemake_is_called():
    fetching = {"dump", "dataset", "fetch_teacher", "fetch_system"}
    assert {rule for rule in fetching if "localrule: True" in RULES[rule]} == fetching
    # A job on another node says what it may use; a local one asks for nothing.
    for rule, text in RULES.items():
        if "shell:" in text:
            assert ("localrule: True" in text) != ("runtime=" in text), rule
