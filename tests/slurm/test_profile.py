"""The profile for Slurm against the rules, where Snakemake says nothing; needs no cluster."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from tiny_project import PROJECT

PROFILE = yaml.safe_load((PROJECT / "workflow/profiles/slurm/config.yaml").read_text())
RULES = {
    rule: text
    for file in sorted((PROJECT / "workflow/rules").glob("*.smk"))
    for rule, text in re.findall(
        r"^ *(?:rule|use rule \w+ as) (\w+)(?: with)?:\n(.*?)(?=^ *(?:use )?rule \w+|\Z)",
        file.read_text(),
        re.M | re.S,
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
    """Return every long option of snakemake and its Slurm plugin, without the dashes."""
    snakemake = Path(sys.executable).parent / "snakemake"
    command = [snakemake, "--help"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"--([a-z][a-z-]+)", printed))


def test_every_key_is_an_option_of_snakemake():
    known = options()
    for name in ("slurm", "default"):
        profile = yaml.safe_load((PROJECT / f"workflow/profiles/{name}/config.yaml").read_text())
        assert set(profile) <= known
    # A misspelt key would be found.
    assert "set-resource" not in known


def test_every_named_rule_is_a_rule_and_every_resource_is_read():
    named = set(PROFILE["default-resources"]) | set(PROFILE["resources"])
    assert set(PROFILE["set-resources"]) <= set(RULES)
    for resources in PROFILE["set-resources"].values():
        named |= set(resources)
    assert named <= RESOURCES


def test_the_profiles_in_the_docs_name_what_there_is():
    text = (PROJECT / "docs/cluster.md").read_text()
    profiles = [
        found
        for found in map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", text, re.S))
        if "set-resources" in found
    ]
    assert len(profiles) == 3
    for profile in profiles:
        assert set(profile["set-resources"]) <= set(PROFILE["set-resources"])
        for resources in (profile.get("default-resources", {}), *profile["set-resources"].values()):
            assert set(resources) <= RESOURCES


def test_every_rule_with_a_gpu_has_a_gpu_partition():
    with_gpu = {rule for rule, text in RULES.items() if re.search(r"^ +gpu=", text, re.M)}
    in_gpu = {
        rule
        for rule, resources in PROFILE["set-resources"].items()
        if resources["slurm_partition"] == "gpu"
    }
    assert with_gpu | {"distill_extended"} == in_gpu


def test_what_needs_the_internet_runs_where_snakemake_is_called():
    fetching = {"download_dump", "read_dataset", "fetch_teacher"}
    assert {rule for rule in fetching if "localrule: True" in RULES[rule]} == fetching
    # A job on another node says what it may use; a local one asks for nothing.
    for rule, text in RULES.items():
        if "shell:" in text:
            assert ("localrule: True" in text) != ("runtime=" in text), rule
