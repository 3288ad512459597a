"""Texts, datasets and mixtures as documents."""

import bz2
import gzip
import json
import subprocess
import sys

import pytest
import zstandard
from corpus_data import DATA, needs_data

from eliquare.corpus import dataset, documents, mixture, text
from eliquare.stage import InputError

LINES = ["Habari ya asubuhi.", "", "Jina langu ni Amani, ninatoka Arusha.", "Habari ya asubuhi."]


def run(stage, *arguments):
    stage.run(stage.parser().parse_args([str(argument) for argument in arguments]))


def report(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "documents"


@pytest.mark.parametrize("suffix", [".txt", ".gz", ".bz2", ".zst"])
def test_a_document_a_line(tmp_path, out, suffix):
    opened = {".gz": gzip.open, ".bz2": bz2.open, ".zst": zstandard.open}.get(suffix, open)
    file = tmp_path / f"text{suffix}"
    with opened(file, "wb") as stream:
        stream.write(b"\xef\xbb\xbf" + "\r\n".join(LINES).encode())
    run(text, "--file", file, "--file", file, "--document", "line", "--output", out)
    found = list(documents.read(out))
    assert [(d.id, d.text) for d in found] == [("1-1", LINES[0]), ("1-3", LINES[2])]
    assert report(out)["dropped"]["exact_duplicate"] == 4


def test_a_document_a_file(tmp_path, out):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"First line of {name}.\nSecond line.\n")
    files = ["--file", tmp_path / "a.txt", "--file", tmp_path / "b.txt"]
    run(text, *files, "--document", "file", "--output", out)
    assert list(documents.read(out)) == [
        ("1", "a.txt", "First line of a.txt.\nSecond line."),
        ("2", "b.txt", "First line of b.txt.\nSecond line."),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "text.txt: an empty corpus: 0 of 0 kept"),
        (b"\n  \n", "text.txt: an empty corpus: 0 of 0 kept"),
        (b"good\nbad \xff\n", "text.txt, line 2, byte 5: not UTF-8"),
        ("abc".encode("utf-16"), "text.txt: is UTF-16; expected UTF-8"),
    ],
)
def test_text_that_cannot_be_used(tmp_path, out, content, words):
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    command = [sys.executable, "-m", "eliquare.corpus.text", "--file", file, "--document", "line"]
    done = subprocess.run([*command, "--output", out], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert words in done.stderr
    assert not out.exists()


def test_a_file_that_is_not_there(tmp_path, out):
    with pytest.raises(InputError, match=r"none.txt: no such text file"):
        run(text, "--file", tmp_path / "none.txt", "--document", "line", "--output", out)


@needs_data
def test_real_text_does_not_depend_on_the_number_of_processes(tmp_path):
    file = DATA / "text" / "sl" / "news.txt.gz"
    for processes in (1, 2):
        options = ["--document", "line", "--processes", processes]
        run(text, "--file", file, *options, "--output", tmp_path / str(processes))
    for name in (documents.FILE, "report.json", "characters.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert report(tmp_path / "1")["documents"] == 834
    assert (
        len(gzip.decompress(file.read_bytes()).splitlines())
        == report(tmp_path / "1")["pages"]
        == 837
    )


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
    options = ["--column", "body", "--min-characters", 5]
    run(dataset, "--dataset", local, *options, "--output", out)
    found = list(documents.read(out))
    assert len(found) == 12 and found[3] == ("4", "T3", "Text number 3 of a dataset.")
    assert report(out)["dropped"]["short"] == 1
    again = out.with_name("again")
    run(dataset, "--dataset", local / "train.jsonl", *options, "--output", again)
    assert (out / documents.FILE).read_bytes() == (again / documents.FILE).read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--column", "text"], "--column text: .* no such column; its columns are body, id, title"),
        (["--column", "id"], "row 1: column id holds int, expected text"),
        (["--column", "body", "--split", "dev"], "Bad split: dev"),
    ],
)
def test_a_dataset_that_cannot_be_used(local, out, options, words):
    with pytest.raises(InputError, match=words):
        run(dataset, "--dataset", local, *options, "--output", out)
    assert not out.exists()


def test_a_mixture(tmp_path, out):
    folders = []
    for name, lines in {"sw": ["Habari yako.", "Asante sana."], "sl": ["Dober dan."]}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
        folders.append(tmp_path / name)
        file = tmp_path / f"{name}.txt"
        run(text, "--file", file, "--document", "line", "--output", folders[-1])
    run(mixture, "--documents", *folders, "--output", out)
    assert list(documents.read(out)) == [
        ("1-1-1", "", "Habari yako."),
        ("1-1-2", "", "Asante sana."),
        ("2-1-1", "", "Dober dan."),
    ]
    again = ["--documents", folders[0], "--documents", folders[1]]
    run(mixture, *again, "--output", out.with_name("again"))
    assert (out.with_name("again") / documents.FILE).read_bytes() == (
        out / documents.FILE
    ).read_bytes()
    total = report(out)
    assert total["source"] == "sw.txt + sl.txt" and total["documents"] == total["pages"] == 3
    characters = json.loads((out / "characters.json").read_text())
    assert sum(characters.values()) == total["characters"] == 34
    assert next(iter(characters.items())) == ("a", 7)


def test_a_mixture_of_what_is_not_there(tmp_path, out):
    with pytest.raises(InputError, match=r"none/report.json: no such file"):
        run(mixture, "--documents", tmp_path / "none", "--output", out)


def test_a_damaged_documents_folder_is_told(tmp_path):
    with zstandard.open(tmp_path / documents.FILE, "wb") as file:
        file.write(b'{"id": "1", "title": "", "text": "a"}\n{"id": "2"}\n')
    with pytest.raises(InputError, match=r"documents.jsonl.zst, line 2: expected a JSON object"):
        list(documents.read(tmp_path))
