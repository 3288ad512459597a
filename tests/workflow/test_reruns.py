"""What a change makes again: exactly what depends on it, counted in jobs."""

import copy
import os
import re
import shutil
import time
from pathlib import Path

import pytest
import yaml

from stub_project import Stubs

# What people read, made again whenever something else is; two released models.
READ = {"tables": 1, "figures": 1, "release": 2, "report": 1}
ALL_READ = READ | {"freeze_config": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Stubs:
    """The project with all its results."""
    project = Stubs(tmp_path_factory.mktemp("reruns"))
    project.make(project.path)
    return project


def test_nothing_is_made_again_without_a_reason(made):
    # A comment, a touched file with the same content, another partition, a lost cost file.
    for name in ("rules/distillation.smk", "eliquare/cli.py"):
        with (made.folder / "workflow" / name).open("a") as source:
            source.write("\n# One more comment.\n")
    for name in ("tasks/qaa.txt", "results/corpora/qaa/teacher/sentences/vocabulary.csv"):
        os.utime(made.folder / name)
    next(made.folder.glob("results/costs/distill/*.tsv")).unlink()
    other = ("--set-resources", "distill:slurm_partition=other", "finetune:mem_mb=1")
    assert made.planned(made.path, *other) == {}


def test_a_copy_and_a_clock_that_jumps_make_nothing_again(made, tmp_path):
    """`cp -r`, rsync and archives give new times, in an order of their own."""
    copied = Path(shutil.copytree(made.folder, tmp_path / "copied", symlinks=True))
    for seconds, file in enumerate(sorted(copied.rglob("*"), reverse=True)):
        os.utime(file, (1.7e9 + seconds, 1.7e9 + seconds), follow_symlinks=False)
    copy_of = copy.copy(made)
    copy_of.folder, copy_of.path = copied, copied / made.path.relative_to(made.folder)
    assert copy_of.planned(copy_of.path) == {}

    # A change still makes again all that follows from it.
    def change(config):
        config["languages"]["qab"]["corpus"]["date"] = "20260201"

    assert copy_of.changed(change) == ALL_READ | OF_ONE_LANGUAGE

    # What follows from a new task file is made although the clock was wrong by a year before.
    ahead = time.time() + 365 * 24 * 3600
    for file in copied.glob("res*/**/*"):
        os.utime(file, (ahead, ahead), follow_symlinks=False)
    assert copy_of.planned(copy_of.path) == {}
    (copied / "tasks/qab.txt").write_text("other words")
    copy_of.make(copy_of.path)
    assert copy_of.planned(copy_of.path) == {}


def test_words_and_threads_are_nothing_to_the_models(made):
    def change(config):
        config["title"] = "Another title"
        config["students"]["pre"] = dict(reversed(config["students"]["pre"].items()))
        config["students"]["pre"]["training"] |= {"threads": 7, "checkpoint_minutes": 1}

    assert made.changed(change) == ALL_READ


def test_one_hyper_parameter_of_one_student(made):
    def change(config):
        config["students"]["pre"]["objective"] = {"kl": {"temperature": 4.0}}
        for student in ("full", "longer"):
            config["students"][student]["objective"] = {"kl": {"temperature": 2.0}}

    again = {"distill": 2, "finetune": 2, "benchmark": 2, "evaluate_intrinsic": 2}
    assert made.changed(change) == ALL_READ | again


def test_one_more_seed_of_finetuning(made):
    def change(config):
        config["experiment"]["seeds"] = [1, 2]

    # Each of these jobs takes over the seed that is there.
    assert made.changed(change) == ALL_READ | {"finetune": 6}


def test_one_more_seed_of_distillation(made):
    def change(config):
        config["students"]["pre"]["seeds"] = [1, 2]
        config["students"]["full"]["seeds"] = config["students"]["longer"]["seeds"] = [1]

    # A second seed has the size and the speed of the first.
    new = {"distill": 2, "finetune": 2, "evaluate_intrinsic": 2}
    assert made.changed(change) == ALL_READ | new


def test_one_more_task(made):
    def change(config):
        config["experiment"]["tasks"].append("qaa-ner")

    # Reports and verifications read the tasks of their language.
    again = {"finetune": 3, "vocabulary_report": 1, "extension_report": 1, "verify_student": 1}
    assert made.changed(change) == ALL_READ | again


# All that follows from the text of one language; its students start as the teacher does.
OF_ONE_LANGUAGE = {
    "download_dump": 1,
    "extract_documents": 1,
    "sample_held_out": 1,
    "tokenize": 2,
    "tokenize_extended": 1,
    "fix_masks": 2,
    "fix_masks_extended": 1,
    "select_vocabulary": 1,
    "reduce_teacher": 1,
    "extend_teacher": 1,
    "vocabulary_report": 1,
    "extension_report": 1,
    "distill": 2,
    "distill_extended": 1,
    "reduce_student": 1,
    "verify_student": 1,
    "finetune": 3,
    "benchmark": 3,
    "evaluate_intrinsic": 3,
}


def test_one_more_task_of_minimal_pairs(made):
    def change(config):
        columns = {"text_column": "good", "text_pair_column": "bad"}
        pairs = {"language": "qaa", "kind": "minimal_pairs", "test": "tasks/qaa.txt"}
        config["tasks"]["qaa-pairs"] = pairs | columns
        config["experiment"]["tasks"].append("qaa-pairs")

    # Nothing is fine-tuned on them.
    assert made.changed(change) == ALL_READ | {"evaluate_intrinsic": 3}


def test_one_more_language(made):
    def change(config):
        config["languages"]["qac"] = config["languages"]["qab"]
        config["tasks"]["qac-ner"] = {"language": "qac", "kind": "ner", "train": "tasks/qac.txt"}
        config["experiment"]["languages"].append("qac")
        config["experiment"]["tasks"].append("qac-ner")

    assert made.changed(change) == ALL_READ | OF_ONE_LANGUAGE | {"release": 3}


def test_another_dump_of_one_language(made):
    def change(config):
        config["languages"]["qab"]["corpus"]["date"] = "20260201"

    assert made.changed(change) == ALL_READ | OF_ONE_LANGUAGE


def test_a_task_file_with_other_content(made):
    file = made.folder / "tasks/qaa.txt"
    file.write_text("other words")
    try:
        planned = made.planned(made.path)
    finally:
        file.write_text("qaa")
    again = {"finetune": 3, "vocabulary_report": 1, "extension_report": 1, "verify_student": 1}
    # The other language's model is released as it was.
    assert planned == READ | again | {"release": 1}


def test_a_raised_version_makes_its_stage_again(made):
    source = made.folder / "workflow/eliquare/cli.py"
    text = source.read_text()
    raised = re.sub(r'(evaluation.benchmark:benchmark", )(\d+)', r"\g<1>1\2", text)
    assert raised != text
    source.write_text(raised)
    try:
        planned = made.planned(made.path)
    finally:
        source.write_text(text)
    assert planned == READ | {"benchmark": 6}


def test_a_deleted_intermediate_is_made_only_where_it_is_needed(made):
    folder = made.folder / "results/corpora/qaa/teacher/sentences/masking"
    away = folder.with_name("away")
    folder.rename(away)

    def change(config):
        config["students"]["hotter"] = {
            "extends": "pre",
            "objective": {"kl": {"temperature": 4.0}},
        }
        config["experiment"]["systems"].append("hotter")

    try:
        assert made.planned(made.path) == {}
        planned = made.changed(change)
    finally:
        away.rename(folder)
    # The other student that learns with these masks is trained again with it.
    new = {"distill": 3, "finetune": 3, "benchmark": 3, "evaluate_intrinsic": 3}
    assert planned == ALL_READ | new | {"fix_masks": 1}


def test_two_experiments_share_what_they_name_alike(made):
    def change(config):
        config["name"] = "another"

    # Scores are gathered anew, from the fine-tuned models in the shared store.
    assert made.changed(change) == ALL_READ | {"finetune": 6, "evaluate_intrinsic": 6}

    other = copy.deepcopy(made.config)
    change(other)
    other["students"]["pre"]["training"]["max_steps"] = 7
    path = made.configure(other, "changed.yaml")
    refused = made.run("-n", "--configfile", str(path))
    assert refused.returncode == 2
    assert re.search(r"^error: .*students\.pre", refused.stdout, re.M), refused.stdout
    assert "Traceback" not in refused.stdout


def test_smoke_has_a_folder_of_its_own(made):
    before = {file: file.stat().st_mtime_ns for file in (made.folder / "results").rglob("*")}
    made.make(made.path, "--config", "smoke=true")
    smoke = made.folder / "results/smoke"
    assert (smoke / "stubs/report.html").exists()
    after = (made.folder / "results").rglob("*")
    assert {file: file.stat().st_mtime_ns for file in after if smoke not in file.parents} == (
        before | {smoke: smoke.stat().st_mtime_ns}
    )
    frozen = yaml.safe_load((smoke / "stubs/settings.json").read_text())
    assert frozen["smoke"] is True
    assert frozen["students"]["pre"]["training"]["max_steps"] < 100
    assert made.planned(made.path) == {}


def test_clones_share_downloads_and_documents(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(tmp_path / "cache"))
    target = "results/corpora/qaa/teacher/full/masking"
    shared = ["download_dump", "extract_documents", "fetch_teacher"]
    ran, files = [], []
    for name in ("first", "second"):
        clone = Stubs(tmp_path / name)
        printed = clone.make(clone.path, "--cache", *shared, target=target)
        assert "eligible for caching" not in printed
        logs = clone.folder.glob("logs/*/*.log")
        ran.append({log.parent.name for log in logs if log.stat().st_size})
        files.append((clone.folder / "results/corpora/qaa/documents/made").read_text())
        # What was taken from the cache stays.
        assert clone.planned(clone.path, "--cache", *shared, "--", target) == {}
    assert ran == [{*shared, "tokenize", "fix_masks"}, {"tokenize", "fix_masks"}]
    assert files[0] == files[1]
