"""Starting, reading and sharing a folder: one live run, a killed one, other ways to call it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from eliquare.reporting import graph
from stub_project import Stubs
from tiny_project import PROJECT, SNAKEMAKE, jobs_of

sys.path.insert(0, str(PROJECT / "workflow/rules"))
import earlier_jobs

TARGET = "results/teachers/teacher/model"
LOG = "logs/fetch_teacher/teacher.log"
# Ways to read the Snakefile, all in one folder in which a run is at work.
READING = {
    "lint": ("--lint",),
    "list": ("--list-rules",),
    "dry-run": ("-n",),
    "summary": ("--summary",),
    "unlock": ("--unlock",),
    "graph": ("--rulegraph",),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Stubs:
    """A project in which nothing is made yet, in a folder as people call theirs."""
    return Stubs(tmp_path_factory.mktemp("running") / 'my č 100% "x" $(touch PWNED) (2)')


def options(project: Stubs) -> tuple[str, ...]:
    return ("--cores", "1", "--configfile", str(project.path))


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """Commands of a cluster that answer what is in a file, and write down each call."""
    calls = tmp_path / "calls"
    calls.touch()
    (tmp_path / "bin").mkdir()
    for name in ("squeue", "scancel", "sbatch", "scontrol"):
        script = tmp_path / "bin" / name
        script.write_text(
            f'#!/bin/sh\necho {name} "$@" >> {calls}\n[ {name} != squeue ] || {tmp_path}/answer\n'
        )
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


def answer(slurm: Path, *answers: str) -> None:
    """Let each call of squeue give the next of some answers, the last one for good."""
    script = slurm / "answer"
    lines = "\n".join(f"{number}) echo '{text}';;" for number, text in enumerate(answers))
    script.write_text(
        f"#!/bin/sh\nn=$(cat {slurm}/asked 2>/dev/null || echo 0)\n"
        f"[ $n = {len(answers) - 1} ] || echo $((n + 1)) > {slurm}/asked\n"
        f"case $n in\n{lines}\nesac\n"
    )
    script.chmod(0o755)


@pytest.fixture
def at_work(project):
    """A run that is at work in the project's folder."""
    (project.folder / "slow").touch()
    log = project.folder / LOG
    log.unlink(missing_ok=True)
    run = project.start(*options(project), "--", TARGET, start_new_session=True)
    until(lambda: (log.exists() and log.stat().st_size) or run.poll() is not None)
    yield run
    (project.folder / "slow").unlink(missing_ok=True)
    if run.poll() is None:
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()


def until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of every file, without what Snakemake keeps for itself."""
    return {
        str(file): (file.stat().st_size, file.stat().st_mtime_ns)
        for file in sorted(folder.rglob("*"))
        if not {".snakemake", "__pycache__"} & set(file.parts)
    }


def test_reading_changes_and_cancels_nothing(project, at_work, slurm):
    answer(slurm, f"7|PENDING|rule_distill|{project.folder}")
    before = state(project.folder)
    for name, words in READING.items():
        done = project.run(*words, *options(project))
        assert done.returncode == 0, (name, done.stdout)
    assert state(project.folder) == before
    # Snakemake's plugin for Slurm itself asks how the cluster is set up.
    assert set((slurm / "calls").read_text().splitlines()) <= {"scontrol show config"}
    assert at_work.poll() is None


def test_two_live_runs_in_one_folder_refuse_each_other(project, at_work):
    refused = project.run(*options(project), "--", TARGET)
    assert refused.returncode == 1
    errors = re.findall("^error: .*", refused.stdout, re.M)
    assert len(errors) == 1
    assert f"process {at_work.pid}" in errors[0]
    assert "Traceback" not in refused.stdout
    assert at_work.poll() is None


def test_the_same_command_goes_on_after_a_killed_run(project, at_work):
    os.killpg(at_work.pid, signal.SIGKILL)
    at_work.communicate()
    (project.folder / "slow").unlink()
    project.make(project.path, target=TARGET)


def test_jobs_of_an_earlier_run_are_waited_for_and_those_in_the_queue_cancelled(
    slurm, monkeypatch, capsys
):
    monkeypatch.setattr(earlier_jobs, "SECONDS_BETWEEN_LOOKS", 0)
    folder = slurm / "a|b"
    # Another folder's job, and one of the user's own, in which Snakemake itself may run.
    others = f"1|RUNNING|rule_distill|{slurm}\n2|RUNNING||{folder}\n"
    others += f"7|RUNNING|a=1|b=2|{folder}\n8_[1-4]|PENDING|first\nsecond|{folder}\nthird"
    running = f"3|RUNNING|rule_distill_wildcards_pre_qaa|{folder}"
    waiting = f"4|PENDING|rule_finetune|{folder}"
    answer(slurm, f"{others}\n{running}\n{waiting}", f"{others}\n{running}", others)
    assert earlier_jobs.settle(folder)
    calls = (slurm / "calls").read_text().splitlines()
    assert [call for call in calls if not call.startswith("squeue")] == ["scancel 4"]
    assert sum(call.startswith("squeue") for call in calls) == 3
    assert capsys.readouterr().err.count(" 3. ") == 1
    assert not earlier_jobs.settle(folder)


def test_a_silent_controller_is_no_empty_queue(slurm):
    answer(slurm, "")
    (slurm / "answer").write_text("#!/bin/sh\necho 'no contact' >&2\nexit 1\n")
    with pytest.raises(SystemExit, match="no contact"):
        earlier_jobs.settle(slurm)


def test_called_for_another_folder_and_as_a_module(project, tmp_path):
    jobs = project.planned(project.path)
    away = tmp_path / "away"
    (away / "tasks").mkdir(parents=True)
    for file in (project.folder / "tasks").iterdir():
        (away / "tasks" / file.name).write_bytes(file.read_bytes())
    there = project.run("-n", *options(project), "--directory", str(away))
    # The model that was fetched in the project's own folder is not there.
    assert jobs_of(there.stdout) == jobs | {"fetch_teacher": 1}, there.stdout
    (away / "Snakefile").write_text(
        f"""
configfile: {str(project.path)!r}

module small:
    snakefile: {str(project.folder / "workflow/Snakefile")!r}
    config: config

use rule * from small as small_*

rule mine:
    default_target: True
    input: "results/stubs/report.html"
"""
    )
    command = [SNAKEMAKE, "-n", "--cores", "1"]
    as_module = subprocess.run(
        command, cwd=away, capture_output=True, text=True, timeout=300, check=False
    )
    found = jobs_of(as_module.stdout + as_module.stderr)
    assert found.pop("mine") == 1
    assert found == {
        f"small_{rule}": count for rule, count in jobs_of(there.stdout).items() if rule != "release"
    }


def test_what_the_command_line_takes_from_the_profile_is_said(project):
    slurm = ("-n", "--profile", "slurm", *options(project))
    for words, said in (((), 0), (("--default-resources", "slurm_account=nlp"), 1)):
        done = project.run(*slurm, *words)
        assert done.returncode == 0, done.stdout
        assert done.stdout.count("warning: default-resources has no longest_job") == said


def test_a_folder_with_braces_is_refused_in_one_line(tmp_path):
    project = Stubs(tmp_path / "a{b}c")
    done = project.run("-n", *options(project))
    assert done.returncode == 2
    assert re.search(r"^error: .*a\{b\}c: Snakemake takes '\{' and '\}'", done.stdout, re.M)
    assert "Traceback" not in done.stdout


def test_mistakes_are_reported_before_anything_runs(project):
    path = project.configure({"name": "mistaken", "languges": {}}, "mistaken.yaml")
    done = project.run("--cores", "1", "--configfile", str(path))
    assert done.returncode == 2
    assert re.search(r"^error: .*mistaken.yaml: languges: .*languages", done.stdout, re.M)
    assert "Traceback" not in done.stdout
    assert "WorkflowError" not in done.stdout


def test_a_key_that_stands_twice_is_refused(project):
    twice = "name: a\nname: b\n"
    path = project.folder / "config/twice.yaml"
    path.write_text(twice)
    (project.folder / "config/config.yaml").write_text(twice)
    for options in (["--configfile", str(path)], []):
        done = project.run("-n", "--cores", "1", *options)
        assert done.returncode == 2
        said = r"^error: .*\.yaml, line 2: not YAML \(the key 'name' stands here twice"
        assert re.search(said, done.stdout, re.M)
        assert "Traceback" not in done.stdout


@pytest.mark.parametrize("experiment", ["electronics2023", "cruz2024", "vocabularies-demo"])
def test_the_graph_of_the_report_has_the_ways_of_the_workflow(experiment, tmp_path):
    file = tmp_path / "config.yaml"
    treebank = {"language": "qaa", "kind": "upos"}
    treebank["ud"] = {"treebank": "UD_Welsh-CCG", "release": "2.17"}
    settings: dict = {"extends": str(PROJECT / f"config/experiments/{experiment}.yaml")}
    if experiment == "vocabularies-demo":
        settings |= {"tasks": {"fetched": treebank}, "experiment": {"tasks": None}}
    file.write_text(yaml.safe_dump(settings))
    command = [SNAKEMAKE, "--rulegraph", "dot", "--cores", "1", "--configfile", str(file)]
    dot = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    rules = dict(re.findall(r'(\d+)\[label = "(\w+)"', dot))
    ways = {(rules[one], rules[other]) for one, other in re.findall(r"(\d+) -> (\d+)", dot)}
    assert len(ways) > 40

    def before(rule: str) -> set[str]:
        found: set[str] = set()
        new = {rule}
        while new:
            new = {each for one in new for each in graph.RULES[one]} - found
            found |= new
        return found

    unknown = {(one, other) for one, other in ways if {one, other} <= graph.RULES.keys()}
    unknown = {(one, other) for one, other in unknown if one not in before(other)}
    # The settings are no step of the work, and text is cut with the tokens that it selected: a
    # circle of rules, though not of jobs.
    circle = {("reduce_teacher", "tokenize"), ("reduce_teacher", "fix_masks")}
    assert {way for way in unknown if way[0] != "freeze_config"} <= circle
