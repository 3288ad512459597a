"""Texts, datasets and mixtures as documents."""

import bz2
import gzip
import json
import subprocess
import sys

import pytest
import zstandard

from eliquare.corpus import documents
from eliquare.corpus.sources import (
    DatasetOptions,
    MixtureOptions,
    TextOptions,
    mix,
    read_dataset,
    read_text,
)
from eliquare.io import InputError

LINES = ["Habari ya asubuhi.", "", "Jina langu ni Amani, ninatoka Arusha.", "Habari ya asubuhi."]


def text(files, output, **options):
    options = {"min_characters": 1, "min_documents": 2} | options
    read_text(TextOptions(files=files, output=output, **options))
    return list(documents.read(output))


def dataset(name, output, **options):
    read_dataset(DatasetOptions(dataset=str(name), output=output, **options))
    return list(documents.read(output))


def report(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "documents"


@pytest.mark.parametrize("suffix", [".txt", ".gz", ".bz2", ".zst"])
def test_a_document_per_line(tmp_path, out, suffix):
    opened = {".gz": gzip.open, ".bz2": bz2.open, ".zst": zstandard.open}.get(suffix, open)
    file = tmp_path / f"text{suffix}"
    with opened(file, "wb") as stream:
        stream.write(b"\xef\xbb\xbf" + "\r\n".join(LINES).encode())
    found = text([file, file], out)
    assert [(d.id, d.text) for d in found] == [("1-1", LINES[0]), ("1-3", LINES[2])]
    assert report(out)["dropped"]["exact_duplicate"] == 4


def test_a_document_per_file(tmp_path, out):
    files = [tmp_path / name for name in ("a.txt", "b.txt")]
    for file in files:
        file.write_text(f"First line of {file.name}.\nSecond line.\n")
    assert text(files, out, document="file") == [
        ("1", "a.txt", "First line of a.txt.\nSecond line."),
        ("2", "b.txt", "First line of b.txt.\nSecond line."),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n  \n", "text.txt: an empty corpus: 0 of 0 kept"),
        (b"good\nbad \xff\n", "text.txt, line 2, byte 5: not UTF-8"),
        ("abc".encode("utf-16"), "text.txt, line 1, byte 1: not UTF-8"),
    ],
)
def test_text_that_cannot_be_used(tmp_path, out, content, words):
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    with pytest.raises(InputError) as error:
        text([file], out)
    assert words in str(error.value)
    assert not out.exists()


def test_on_the_command_line_a_mistake_is_one_line_and_exit_code_2(tmp_path, out):
    command = [sys.executable, "-m", "eliquare", "corpus", "text", "--files", tmp_path / "none"]
    done = subprocess.run([*command, "--output", out], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def local(tmp_path):
    folder = tmp_path / "dataset"
    folder.mkdir()
    rows = [
        {"id": n, "body": f"Text number {n} of a dataset.", "title": f"T{n}"} for n in range(12)
    ]
    rows.append({"id": 12, "body": None, "title": "empty"})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_local_dataset(local, out):
    found = dataset(local, out, column="body", min_characters=5)
    assert len(found) == 12
    assert found[3] == ("4", "T3", "Text number 3 of a dataset.")
    assert report(out)["dropped"]["short"] == 1
    again = out.with_name("again")
    dataset(local / "train.jsonl", again, column="body", min_characters=5)
    assert (out / documents.FILE).read_bytes() == (again / documents.FILE).read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"column": "text"}, "--column text: .* no such column; its columns are body, id, title"),
        ({"column": "id"}, "row 1: column id holds int, expected text"),
        ({"column": "body", "split": "dev"}, "Bad split: dev"),
    ],
)
def test_a_dataset_that_cannot_be_used(local, out, options, words):
    with pytest.raises(InputError, match=words):
        dataset(local, out, **options)
    assert not out.exists()


def test_a_mixture(tmp_path, out):
    folders = []
    for name, lines in {
        "sw": ["Habari yako.", "Asante sana."],
        "sl": ["Dober dan.", "Da."],
    }.items():
        file = tmp_path / f"{name}.txt"
        file.write_text("\n".join(lines))
        folders.append(tmp_path / name)
        text([file], folders[-1])
    mix(MixtureOptions(documents=folders, output=out))
    assert list(documents.read(out)) == [
        ("1-1-1", "", "Habari yako."),
        ("1-1-2", "", "Asante sana."),
        ("2-1-1", "", "Dober dan."),
        ("2-1-2", "", "Da."),
    ]
    total = report(out)
    assert total["source"] == "sw.txt + sl.txt"
    assert total["documents"] == total["pages"] == 4
    characters = json.loads((out / "characters.json").read_text())
    assert sum(characters.values()) == total["characters"] == 37
    assert next(iter(characters.items())) == ("a", 8)


def test_a_mixture_of_what_is_not_there(tmp_path, out):
    with pytest.raises(InputError, match=r"none/report.json: no such file"):
        mix(MixtureOptions(documents=[tmp_path / "none"], output=out))
