"""The complete flow on invented languages: once undisturbed, once killed in each expensive step."""

import contextlib
import csv
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, pipeline

from eliquare.io import checksum
from families import make_teacher
from tiny_project import Project, tiny

pytestmark = pytest.mark.timeout(3000)

# Rules of each kind that is expensive, and what appears while they are at work. The teacher is
# pre-trained as a student is distilled, and a text is tokenized as it is read.
AT_WORK = {
    "extract_documents": "results/corpora/*/.documents.partial",
    "distill": "results/students/pre/qaa/.model.checkpoints/checkpoint-*/manifest.json",
    "finetune": "results/finetuned/qaa-upos/pre/.seed-1.lock",
}


def configuration(mmbert: Path, encoder: Path) -> dict[str, Any]:
    """Return every kind of student, and a teacher from a folder whose vocabulary is only reduced.

    The demo's qaa is written in Latin letters, qab in Cyrillic, qac in Devanagari.
    """
    config = tiny("flow")
    # Long enough to be caught between two checkpoints.
    training = config["students"]["pre"]["training"] | {"max_steps": 40, "checkpoint_minutes": 1e-3}
    config["teachers"]["teacher"]["training"] = dict(training)
    config["students"]["pre"]["training"] = dict(training)
    config["finetuning"]["num_train_epochs"] = 20
    config["teachers"]["other"] = {"source": "folder", "model": str(mmbert)}
    config["vocabularies"]["together"] = {
        "top_k": 150,
        "languages": ["qab"],
        "scripts": ["Devanagari"],
    }
    config["systems"] = {"reduced": {"teacher": "other", "vocabulary": "together"}}
    config["extensions"] = {
        "more": {"vocabulary": "sentences", "num_tokens": 60, "min_frequency": 3}
    }
    config["students"]["longer"] = {
        "extends": "pre",
        "vocabulary": None,
        "extension": "more",
        "training": {"max_steps": 4},
    }
    # For a language that the teacher does not know: new tokens, pre-training, distillation.
    config["teachers"]["own"] = {
        "source": "adapt",
        "teacher": "teacher",
        "extension": "more",
        "training": {"max_steps": 4},
    }
    config["students"]["of-own"] = {
        "extends": "pre",
        "teacher": "own",
        "vocabulary": None,
        "training": {"max_steps": 4},
    }
    # A sentence encoder, which has no MLM head, and its student.
    config["teachers"]["encoder"] = {
        "source": "folder",
        "model": str(encoder),
        "pooling": "mean",
        "prompts": {"passage": "passage: "},
    }
    config["students"]["sentence"] = {
        "extends": "pre",
        "teacher": "encoder",
        "objective": {"preset": "sentence"},
        "training": {"max_steps": 4},
    }
    # Pairs of texts, which embeddings are scored on.
    texts = {"language": "qaa", "test": str(mmbert.parent / "pairs.tsv")}
    config["tasks"]["qaa-search"] = {**texts, "kind": "retrieval", "text_pair_column": "answer"}
    config["tasks"]["qaa-alike"] = {**texts, "kind": "similarity", "text_pair_column": "answer"}
    config["experiment"]["tasks"] += ["qaa-search", "qaa-alike"]
    # Fine-tuned with a teacher of the task, which is fine-tuned for that alone.
    how = {"teacher": "teacher", "sentences": 10}
    config["systems"]["taught"] = {"student": "pre", "task_distillation": how}
    systems = ["pre", "post", "longer", "of-own", "reduced", "sentence", "taught"]
    config["experiment"] |= {"systems": systems}
    config["experiment"]["release"].append("sentence")
    return config


@pytest.fixture(scope="module")
def flow(tmp_path_factory) -> tuple[Project, Path]:
    """The project after the run, and its configuration."""
    project = Project(tmp_path_factory.mktemp("flow"))
    # Everything is in place: neither a stage nor Snakemake looks for a network.
    project.offline = True
    mmbert = make_teacher("mmbert", project.folder / "mmbert")
    encoder = bare(make_teacher("bert", project.folder / "bert"), project.folder / "encoder")
    rows = ("text\tanswer\tlabel", "mi re\tko mi\t0.2", "ko\tko re\t0.9", "re\tmi\t0.4")
    (project.folder / "pairs.tsv").write_text("\n".join(rows) + "\n")
    path = project.configure(configuration(mmbert, encoder))
    project.make(path)
    return project, path


def bare(model: Path, folder: Path) -> Path:
    """Write a model without its MLM head, as sentence encoders are published."""
    AutoModel.from_pretrained(model).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


def rows(folder: Path, name: str) -> dict[str, dict[str, str]]:
    """Return the rows of a table by their system."""
    with (folder / f"results/flow/tables/{name}.csv").open(newline="") as file:
        return {row["system"]: row for row in csv.DictReader(file)}


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def test_every_system_has_a_score_and_a_size(flow):
    project, path = flow
    systems = {"pre", "post", "longer", "of-own", "reduced", "sentence", "taught"}
    scores = rows(project.folder, "scores")
    assert set(scores) == systems
    assert all(0 < float(row["qaa/qaa-upos accuracy"]) < 1 for row in scores.values())
    sizes = {
        name: read(project.folder / f"results/benchmarks/qaa/{name}.json")["vocab_size"]
        for name in systems - {"taught"}
    }
    assert sizes["pre"] == sizes["post"] <= sizes["longer"] - 60
    # The teacher's tokens, those that are new, and nothing else.
    assert sizes["of-own"] == sizes["longer"]
    adapted = read(project.folder / "results/corpora/qaa/own/full/model/config.json")
    assert adapted["vocab_size"] == sizes["of-own"]
    assert (project.folder / "results/flow/report.html").stat().st_size > 50_000
    assert project.planned(path) == {}


def test_vocabularies_are_those_that_were_asked_for(flow):
    results = flow[0].folder / "results"
    together = read(results / "corpora/qaa/other/together/vocabulary.json")
    scripts = together["tokens"]["by_script"]
    assert scripts["Cyrillic"] > 50
    assert scripts["Devanagari"] > 10
    assert set(together["verification"]["texts"]) == {"corpus", "qaa-upos"}
    sentences = read(results / "corpora/qaa/teacher/sentences/vocabulary.json")
    assert not {"Cyrillic", "Devanagari"} & set(sentences["tokens"]["by_script"])
    verified = read(results / "students/post/qaa/verification.json")
    assert all(text["sentences_compared"] > 5 for text in verified["texts"].values())
    before, after = (
        float(rows(flow[0].folder, "vocabulary_comparison")[name]["fertility"])
        for name in ("pre", "longer")
    )
    assert after < before


def test_models_load_with_transformers_alone(flow):
    results = flow[0].folder / "results"
    fill = pipeline("fill-mask", model=str(results / "flow/models/pre-qaa"))
    assert len(fill(f"a {fill.tokenizer.mask_token} .")) == 5
    longer = AutoModelForMaskedLM.from_pretrained(results / "students/longer/qaa/model")
    assert longer.config.vocab_size > fill.model.config.vocab_size


def test_a_student_of_a_sentence_encoder_is_one(flow):
    released = flow[0].folder / "results/flow/models/sentence-qaa"
    encoder = SentenceTransformer(str(released), device="cpu")
    assert encoder.prompts["document"] == "passage: "
    assert encoder.encode_document(["a b"]).shape[0] == 1
    assert "model.encode_document(" in (released / "README.md").read_text()
    intrinsic = read(flow[0].folder / "results/flow/intrinsic/qaa/sentence.json")
    assert intrinsic["embeddings"]["pairs"]["qaa-search"]["documents"] == 3
    assert len(intrinsic["embeddings"]["pairs"]["qaa-alike"]["cosines"]) == 3
    assert "qaa-alike spearman" in rows(flow[0].folder, "embeddings")["sentence"]
    assert intrinsic["bits_per_character"] is None
    assert "no head" in intrinsic["remark"]


def test_a_student_is_taught_the_task_by_the_fine_tuned_teacher(flow):
    results = flow[0].folder / "results"
    folders = {name: results / f"finetuned/qaa-upos/{name}/seed-1" for name in ("pre", "taught")}
    origin = read(folders["taught"] / "provenance.json")
    assert origin["settings"]["task_distillation"]["teacher"] == "teacher"
    inputs = {name: read(folder / "provenance.json")["inputs"] for name, folder in folders.items()}
    logits = folders["taught"].parents[1] / "teacher/seed-1/logits.safetensors"
    assert inputs["taught"] == inputs["pre"] | {"teacher_logits": checksum(logits)}
    assert len((results / "corpora/qaa/unlabelled-10.txt").read_text().splitlines()) == 10
    histories = [(folder / "history.jsonl").read_bytes() for folder in folders.values()]
    assert histories[0] != histories[1]
    # One model before it is fine-tuned: it is measured once.
    assert not (results / "benchmarks/qaa/taught.json").exists()
    sizes = rows(flow[0].folder, "sizes")
    assert sizes["taught"]["parameters_total"] == sizes["pre"]["parameters_total"]


def test_an_encoder_gets_a_head_once_for_all_languages(flow):
    """On a mixture, with the tokens that stay for it: planned, and made in tests of the stages."""
    project, path = flow
    config = yaml.safe_load(path.read_text())
    head = {"source": "adapt", "teacher": "encoder", "corpus": "world", "vocabulary": "sentences"}
    config["teachers"]["predicts"] = head | {"training": {"max_steps": 4}}
    config["students"]["of-head"] = {"extends": "pre", "teacher": "predicts", "vocabulary": None}
    systems = {"languages": ["qaa", "qab"], "systems": ["of-head"]}
    config["experiment"] = {"seeds": [1], "tasks": ["qaa-upos"]} | systems
    jobs = project.planned(project.configure(config, "head.yaml"))
    once = ("select_vocabulary", "reduce_teacher", "adapt_teacher")
    assert {name: jobs[name] for name in (*once, "distill")} == {
        **dict.fromkeys(once, 1),
        "distill": 2,
    }


def test_the_report_says_what_the_run_cost(flow):
    project, path = flow
    (cost,) = (project.folder / "results/costs/distill").glob("pre-qaa.tsv")
    seconds, *_, cpu = cost.read_text().splitlines()[1].split("\t")
    assert float(seconds) > 0
    assert float(cpu) > 0
    done = project.run("--report", "report.html", "--cores", "1", "--configfile", str(path))
    assert done.returncode == 0, done.stdout
    report = (project.folder / "report.html").read_text()
    assert "Tables" in report
    assert "Figures" in report
    assert "scores" in report


def kill_when(project: Project, options: tuple[str, ...], pattern: str) -> str | None:
    """Start snakemake, and kill it with all its children once it has made or changed a file.

    Returns None, or what it printed if it ended before. What an earlier killed run left does not
    count.
    """

    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in project.folder.glob(pattern)}

    before = times()
    process = project.start(*options, start_new_session=True)
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            if times().items() - before.items():
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                return None
        time.sleep(0.01)
    return process.communicate()[0]


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return models, predictions and metrics of the student, and what they are made from."""
    wanted = ("*.safetensors", "metrics.json", "predictions.jsonl", "*.arrow", "*.zst", "*.npy")
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for pattern in wanted
        for file in sorted((folder / "results").rglob(pattern))
    }


def test_a_run_killed_in_each_expensive_step_gives_the_same_bytes(flow, tmp_path):
    undisturbed, path = flow
    project = Project(tmp_path)
    options = ("--cores", "2", "--configfile", str(path), "--", "results/flow/scores/qaa/pre.json")
    for rule, pattern in AT_WORK.items():
        ended = kill_when(project, options, pattern)
        assert ended is None, f"{rule} was not caught at work:\n{ended[-3000:]}"
    done = project.run(*options)
    assert done.returncode == 0, done.stdout[-6000:]
    found, expected = bytes_of(tmp_path), bytes_of(undisturbed.folder)
    assert len(found) > 15
    assert [name for name in found if found[name] != expected.get(name)] == []
    left = [*tmp_path.glob("results/**/.*.partial"), *tmp_path.glob("results/**/.*.checkpoints")]
    assert left == []
