"""The replication: its texts and tasks are fetched and checked; its intervals are right."""

import csv
import hashlib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from scipy.stats import t

ROOT = Path(__file__).parents[2]
FOLDER = "resources/replication/data/"


def script(name):
    spec = spec_from_file_location(name, ROOT / f"resources/replication/{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Data whose host has two of three files; one is another than the table says."""
    module = script("data")
    files = {"text/a.txt": b"good", "b.tsv": b"changed", "c.tsv": None}
    lines = ["file\trepository\tcommit\tpath\tsha256"]
    for name, content in files.items():
        checksum = hashlib.sha256(b"good").hexdigest()
        lines.append(f"{name}\towner/name\tabc\tof/{name}\t{checksum}")
        path = tmp_path / "host/owner/name/abc/of" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content:
            path.write_bytes(content)
    (tmp_path / "table.tsv").write_text("\n".join(lines))
    monkeypatch.setattr(module, "TABLE", tmp_path / "table.tsv")
    monkeypatch.setattr(module, "SENTENCES", {"text/tasks.txt": ("c.tsv", "text/a.txt")})
    monkeypatch.setenv("ELIQUARE_RAW", str(tmp_path / "host"))
    return module


def test_each_file_is_checked_and_each_fault_is_a_line(data, tmp_path, capsys):
    (tmp_path / "data/text").mkdir(parents=True)
    (tmp_path / "data/text/a.txt").write_text("cut o")
    assert data.main(tmp_path / "data") == 2
    assert (tmp_path / "data/text/a.txt").read_bytes() == b"good"
    assert {path.name for path in (tmp_path / "data").rglob("*") if path.is_file()} == {"a.txt"}
    changed, absent = capsys.readouterr().err.splitlines()
    assert "owner/name/abc/of/b.tsv: wrong checksum" in changed
    assert absent.endswith("owner/name/abc/of/c.tsv: not there")


@pytest.fixture
def complete(data, tmp_path, monkeypatch):
    """A folder with all three files, and no host."""
    folder = tmp_path / "data"
    for name in ("text/a.txt", "b.tsv", "c.tsv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"good")
    monkeypatch.setenv("ELIQUARE_RAW", str(tmp_path / "nowhere"))
    return folder


def test_what_is_there_stays_and_no_host_is_asked(data, complete):
    assert data.main(complete) == 0


def test_sentences_of_tasks_become_a_text(data, complete, monkeypatch):
    texts = {"c.tsv": ["One two ( three ) , four .", "One two three"], "a.txt": ["« A b » c d !"]}
    monkeypatch.setattr(data, "read_texts", lambda path: texts[path.name])
    assert data.main(complete) == 0
    lines = (complete / "text/tasks.txt").read_text(encoding="utf-8").splitlines()
    assert lines == ["One two (three), four.", "«A b» c d!"]


def test_the_table_has_every_file_of_the_real_run():
    with script("data").TABLE.open(newline="") as file:
        listed = {row["file"] for row in csv.DictReader(file, delimiter="\t")}
    settings = yaml.safe_load((ROOT / "config/real.yaml").read_text())
    tasks = settings["tasks"].values()
    splits = ("train", "validation", "test")
    needed = [task[split] for task in tasks for split in splits if split in task]
    needed += settings["languages"]["sw"]["corpus"]["files"]
    assert {name.removeprefix(FOLDER) for name in needed} <= listed
    assert len(needed) == 9


def test_the_claims_are_paired_by_seed(tmp_path):
    """Deviations that two students share do not widen the interval of their difference."""
    lines = ["language,system,seed,bits_per_character", "sw,mlm,1,2.0"]
    for seed, bits in (("1", 1.0), ("2", 1.5), ("3", 1.2)):
        lines += [f"sw,pre,{seed},{bits}", f"sw,tau-1,{seed},{bits + 0.1 * int(seed):.1f}"]
    lines += ["sw,tau-4,1,1.3", "sw,post,2,"]
    (tmp_path / "claims.csv").write_text("\n".join(lines))
    rows = {
        (row["system"], row["beside"]): row
        for row in script("summary").seeds(tmp_path / "claims.csv")
    }
    assert rows.keys() == {("tau-1", "pre"), ("pre", "mlm")}
    row = rows["tau-1", "pre"]
    half = float(t.ppf(0.975, 2)) * 0.1 / 3**0.5
    assert row["difference"] == pytest.approx(0.2)
    assert (row["low"], row["high"]) == pytest.approx((0.2 - half, 0.2 + half))
    assert rows["pre", "mlm"]["difference"] == pytest.approx(3.7 / 3 - 2)
    assert rows["pre", "mlm"]["seeds"] == 3


class Embedder:
    """Embeds each text as one vector, and notes the prompts."""

    def __init__(self, vectors, prompt):
        self.vectors, self.prompts = np.array(vectors, dtype=np.float32), []
        self.sentence = SimpleNamespace(text_prompt=prompt)

    def embed(self, texts, prompt):
        self.prompts.append(prompt)
        return self.vectors


def test_the_distance_to_a_teacher_is_one_minus_the_mean_cosine():
    student, teacher = Embedder([[2, 0], [0, 3]], "query: "), Embedder([[1, 0], [1, 1]], "")
    expected = 1 - (1 + 0.5**0.5) / 2
    assert script("distance").distance(student, teacher, ["a", "b"]) == pytest.approx(expected)
    assert student.prompts == teacher.prompts == ["query: "]
