"""Texts, datasets and mixtures as documents."""

import bz2
import errno
import gzip
import json
import subprocess
import sys

import httpx2
import pytest
import zstandard
from huggingface_hub.errors import HfHubHTTPError

from eliquare import cli
from eliquare import faults as faults_in_words
from eliquare.corpus import documents, sources
from eliquare.corpus.sources import (
    DatasetOptions,
    MixtureOptions,
    TextOptions,
    mix,
    read_dataset,
    read_text,
)
from eliquare.io import Failure, InputError

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
        ("1", "", "First line of a.txt.\nSecond line."),
        ("2", "", "First line of b.txt.\nSecond line."),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n  \n", "text.txt: an empty corpus: 0 of 0 kept"),
        (b"good\nbad \xff\n", "text.txt, line 2, byte 5: not UTF-8"),
        ("abc".encode("utf-16"), "text.txt, line 1, byte 1: not UTF-8"),
        (b"good\n" + b"x" * 101, "text.txt, line 2: 101 bytes; expected lines of text of at most"),
    ],
)
def test_text_that_cannot_be_used(tmp_path, out, monkeypatch, content, words):
    monkeypatch.setattr(documents, "TEXT_CHARACTERS", 100)
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    with pytest.raises(InputError) as error:
        text([file], out)
    assert words in str(error.value)
    assert not out.exists()


def test_a_file_that_is_too_long_for_one_document_is_refused(tmp_path, out, monkeypatch):
    monkeypatch.setattr(sources, "TEXT_CHARACTERS", 100)
    (tmp_path / "text.txt").write_text("\n" * 101)
    with pytest.raises(InputError, match="is one document of more than 100 characters"):
        text([tmp_path / "text.txt"], out, document="file")


def test_a_table_is_not_text(out, capsys):
    words = ["corpus", "text", "--files", "a.csv", "b.txt", "c.tsv.gz", "--output", str(out)]
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[2] for line in lines] == ["a.csv", "c.tsv.gz"]


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


def test_a_local_dataset(local, out, monkeypatch):
    found = dataset(local, out, column="body", min_characters=5)
    assert len(found) == 12
    assert found[3] == ("4", "T3", "Text number 3 of a dataset.")
    assert report(out)["dropped"]["short"] == 1
    monkeypatch.chdir(local)
    for name in (local / "train.jsonl", "train.jsonl", "."):
        again = out.with_name("again")
        dataset(name, again, column="body", min_characters=5)
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


def test_a_split_of_one_file_is_refused(local, out):
    with pytest.raises(
        InputError, match=r"--split dev: .*train\.jsonl is one file, which is read whole"
    ):
        dataset(local / "train.jsonl", out, column="body", split="dev")
    assert not out.exists()


def test_a_dataset_without_a_row_is_refused(tmp_path, out):
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(InputError, match=r"empty.jsonl: a file of it has no row"):
        dataset(tmp_path / "empty.jsonl", out)


def test_a_dataset_made_by_a_script_is_refused_in_one_line(tmp_path, out):
    folder = tmp_path / "oscar"
    folder.mkdir()
    (folder / "oscar.py").write_text("raise SystemExit('run')")
    with pytest.raises(InputError, match="made by a script") as error:
        dataset(folder, out)
    assert "\n" not in str(error.value)


def test_no_more_of_a_dataset_is_read_than_asked_for(local, out, monkeypatch):
    read = []

    def rows(**where):
        for number in range(1000):
            read.append(number)
            yield {"text": f"Text number {number} of a dataset without an end."}

    monkeypatch.setattr("datasets.load_dataset", rows)
    found = dataset(local, out, min_characters=5, min_documents=2, max_documents=10)
    assert len(found) == 10
    assert len(read) <= 10 + documents.CHUNK


def test_a_fault_of_the_moment_is_none_of_the_users(local, out, monkeypatch):
    """As a hub that does not answer, or a disk that is full: exit 1, and not advice on options."""
    request = httpx2.Request("GET", "https://hub.example")
    faults = [
        HfHubHTTPError("503", response=httpx2.Response(503, request=request)),
        OSError(errno.ENOSPC, "full"),
        ConnectionResetError("gone"),
    ]
    for fault in faults:

        def rows(fault=fault, **where):
            raise fault
            yield

        monkeypatch.setattr("datasets.load_dataset", rows)
        with pytest.raises((type(fault), Failure)) as raised:
            dataset(local, out)
        assert isinstance(faults_in_words.plain(raised.value), Failure)


ENGLISH = "This sentence is written in the English language, which everybody here can read well."
SWAHILI = (
    "Habari ya asubuhi. Jina langu ni Amani, ninatoka Arusha na ninapenda kusoma vitabu vingi."
)


def test_documents_of_another_language_are_dropped_and_counted(tmp_path, out):
    file = tmp_path / "text.txt"
    file.write_text("\n".join([SWAHILI, ENGLISH, f"{SWAHILI} Asante sana."]))
    found = text([file], out, identify="sw", near_duplicates=False)
    assert [d.id for d in found] == ["1-1", "1-3"]
    assert report(out)["dropped"]["other_language"] == 1


def test_a_language_that_cannot_be_identified_is_refused(tmp_path, out):
    file = tmp_path / "text.txt"
    file.write_text("\n".join(LINES))
    with pytest.raises(InputError, match=r"does not know 'qaa'.*known are ace, af"):
        text([file], out, identify="qaa")


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


@pytest.fixture
def two_corpora(tmp_path):
    """A corpus of 200 short documents and one of 400 long ones; their characters are 1 to 8."""
    folders = []
    for name, number, length in (("small", 200, 50), ("large", 400, 200)):
        file = tmp_path / f"{name}.txt"
        lines = (
            f"{name} {n} ".ljust(length, "a" if name == "small" else "b") for n in range(number)
        )
        file.write_text("\n".join(lines))
        folders.append(tmp_path / name)
        text([file], folders[-1], near_duplicates=False)
    return folders


def mixed(folders, out, **sampling):
    """Return the mixture, and for each corpus its share of the characters."""
    mix(MixtureOptions(documents=folders, output=out, **sampling))
    found = list(documents.read(out))
    small = sum(len(d.text) for d in found if d.text.startswith("small"))
    total = report(out)
    characters = json.loads((out / "characters.json").read_text())
    assert sum(len(d.text) for d in found) == sum(characters.values()) == total["characters"]
    assert len(found) == len({d.id for d in found}) == total["documents"]
    return found, small / total["characters"]


@pytest.mark.parametrize(
    ("sampling", "share"),
    [
        ({"weights": [1, 1]}, 1 / 2),
        ({"weights": [1, 3]}, 1 / 4),
        ({"weights": [2, 0.5]}, 4 / 5),
        ({"alpha": 1.0}, 1 / 9),
        ({"alpha": 0.5}, 1 / (1 + 8**0.5)),
    ],
)
def test_weights_and_alpha_decide_the_shares_of_the_text(two_corpora, out, sampling, share):
    found, small = mixed(two_corpora, out, **sampling)
    assert small == pytest.approx(share, rel=0.05)
    # As much text in all as without sampling.
    assert sum(len(d.text) for d in found) == pytest.approx(90_000, rel=0.05)


def test_a_mixture_is_sampled_by_the_hash_of_each_document(two_corpora, out, tmp_path):
    found, _ = mixed(two_corpora, out, weights=[1, 1])
    again, _ = mixed(two_corpora, tmp_path / "again", weights=[2, 2])
    assert again == found
    fewer, _ = mixed(two_corpora, tmp_path / "fewer", weights=[2, 1])
    large = [{d.text for d in each if d.text.startswith("large")} for each in (found, fewer)]
    assert large[1] < large[0]


def test_what_was_sampled_is_in_the_report(two_corpora, out):
    found, _ = mixed(two_corpora, out, weights=[1, 1])
    total = report(out)
    assert total["source"] == "small.txt (x 4.50) + large.txt (x 0.56)"
    assert total["pages"] == 600
    taken = {d.text for d in found if d.text.startswith("large")}
    assert total["dropped"]["sampling"] == 400 - len(taken)


def test_weights_that_do_not_fit_are_refused(two_corpora, out):
    with pytest.raises(ValueError, match="3 given for 2"):
        MixtureOptions(documents=two_corpora, weights=[1, 2, 3], output=out)
    with pytest.raises(ValueError, match="weights or alpha"):
        MixtureOptions(documents=two_corpora, weights=[1, 2], alpha=0.5, output=out)


def test_a_mixture_of_what_is_not_there(tmp_path, out):
    with pytest.raises(InputError, match=r"none/report.json: no such file"):
        mix(MixtureOptions(documents=[tmp_path / "none"], output=out))
