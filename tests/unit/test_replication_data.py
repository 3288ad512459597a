"""The texts and tasks of the replication: fetched once, checked, and each fault a line."""

import csv
import gzip
import hashlib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "resources/replication/data.py"
FOLDER = "resources/replication/data/"


@pytest.fixture
def data():
    spec = spec_from_file_location("replication_data", SCRIPT)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def host(data, tmp_path, monkeypatch):
    """A host with two of three files, one of which is another than the table says."""
    files = {"text/a.txt.gz": b"good", "b.tsv": b"changed", "c.tsv": None}
    lines = ["file\trepository\tcommit\tpath\tsha256"]
    for name, content in files.items():
        checksum = hashlib.sha256(b"good").hexdigest()
        lines.append(f"{name}\towner/name\tabc\tof/{name}\t{checksum}")
        path = tmp_path / "host/owner/name/abc/of" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content:
            path.write_bytes(content)
    (tmp_path / "table.tsv").write_text("\n".join(lines))
    monkeypatch.setattr(data, "TABLE", tmp_path / "table.tsv")
    return f"file://{tmp_path}/host"


def test_each_file_is_checked_and_what_is_there_stays(data, host, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/c.tsv").write_text("there")
    assert data.main(tmp_path / "data", host) == 2
    assert gzip.decompress((tmp_path / "data/text/a.txt.gz").read_bytes()) == b"good"
    assert (tmp_path / "data/c.tsv").read_text() == "there"
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{tmp_path / 'data'}: 2 of 3 files"
    assert printed[1:] == [
        f"{host}/owner/name/abc/of/b.tsv: another file than the one that was used "
        "(its SHA-256 differs)"
    ]


def test_a_host_that_does_not_answer_is_one_line(data, host, tmp_path, capsys):
    assert data.main(tmp_path / "data", f"file://{tmp_path}/nowhere") == 2
    _, *problems = capsys.readouterr().out.splitlines()
    assert len(problems) == 1
    assert "not reached" in problems[0]
    assert "ELIQUARE_DATA" in problems[0]


def test_the_table_has_every_file_of_the_real_run(data):
    with data.TABLE.open(newline="") as file:
        listed = {row["file"] for row in csv.DictReader(file, delimiter="\t")}
    settings = yaml.safe_load((ROOT / "config/real.yaml").read_text())
    tasks = settings["tasks"].values()
    needed = [task[split] for task in tasks for split in ("train", "validation", "test")]
    needed += settings["languages"]["sw"]["corpus"]["files"]
    assert {name.removeprefix(FOLDER) for name in needed} <= listed
    assert len(needed) == 8
