"""Task data are fetched over real HTTP, checked, and stored as the readers want them."""

import contextlib
import errno
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile

import pyarrow
import pyarrow.parquet
import pytest

from eliquare import download
from eliquare.config.sources import SUFFIXES
from eliquare.config.tasks import TaskData
from eliquare.evaluation import archives, data, hub, readers
from eliquare.evaluation.fetch import FetchOptions, fetch
from eliquare.io import Failure, InputError, read_json, why_unavailable
from hosts import Hosts

UD = {"treebank": "UD_Qaa-Demo", "release": "2.17", "prefix": "qaa_demo"}
TAGS = ["O", "B-PER", "I-PER"]


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The tasks of an invented language."""
    from demo_languages import world

    folder = tmp_path_factory.mktemp("demo")
    world.run(world.parser().parse_args(["--articles", "50", "--output", str(folder / "world")]))
    return folder / "world/tasks/qaa"


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(download, "BLOCK_BYTES", 1000)
    (tmp_path / "hosts").mkdir()
    with Hosts(tmp_path / "hosts") as server:
        monkeypatch.setenv("ELIQUARE_RAW", server.root)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        from huggingface_hub import constants

        template = server.root + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.root)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield server


@pytest.fixture
def output(tmp_path):
    return tmp_path / "tasks" / "task"


def put(hosts, path, content):
    file = hosts.folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def put_treebank(hosts, demo, parts=("train", "dev", "test"), tag="r2.17"):
    for part in parts:
        name = f"UniversalDependencies/UD_Qaa-Demo/{tag}/qaa_demo-ud-{part}.conllu"
        put(hosts, name, (demo / f"upos/{part.partition('-')[0]}.conllu").read_bytes())
    readme = f"UniversalDependencies/UD_Qaa-Demo/{tag}/README.md"
    put(hosts, readme, "# Summary\n=== Metadata\nLicense: CC BY-SA 4.0\nIncludes text: yes\n")


def put_hub(hosts, files, card="", name="lab/names", revision="main"):
    folder = f"hub/datasets/{name}/{revision.replace('/', '%2F')}"
    for path, content in {"README.md": card, **files}.items():
        put(hosts, f"{folder}/{path}", content)


def parquet(columns, features=None):
    table = pyarrow.table(columns)
    if features:
        described = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": described})
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    return file.getvalue()


def names(count=20):
    """Return sentences with numbered tags, as the columns of a parquet file."""
    words = [["Ana", "Novak", f"w{n}", "."] for n in range(count)]
    return {"tokens": words, "ner_tags": [[1, 2, 0, 0]] * count}


def run(output, kind, columns=None, **source):
    columns = columns or {}
    fetch(FetchOptions(kind=kind, output=output, retries=1, **columns, **source))
    ends = SUFFIXES[kind]
    files = {split: str(output / f"{split}.{ends}") for split in ("train", "validation", "test")}
    if kind == "pair":
        columns = {"text_pair_column": "text_pair"} | columns
    task = TaskData(kind=kind, language="qaa", **files, **columns)
    return data.load(task), read_json(output / "source.json")


# --- Treebanks


def test_a_treebank_is_fetched(hosts, demo, output):
    put_treebank(hosts, demo)
    splits, source = run(output, "upos", ud=UD)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (150, 100, 300)
    assert source["revision"] == "r2.17"
    assert source["licence"] == "CC BY-SA 4.0"
    assert source["cut_from_train"] == []
    address, sha256 = source["files"][0]["address"], source["files"][0]["sha256"]
    assert address == (
        "https://raw.githubusercontent.com/UniversalDependencies/UD_Qaa-Demo/r2.17/"
        "qaa_demo-ud-train.conllu"
    )
    assert sha256 == hashlib.sha256((demo / "upos/train.conllu").read_bytes()).hexdigest()
    assert read_json(output.with_name("checksums.json"))[address] == sha256
    assert sorted(path.name for path in output.iterdir()) == [
        "source.json",
        "test.conllu",
        "train.conllu",
        "validation.conllu",
    ]


def test_the_words_and_the_text_of_a_treebank_stay_as_they_are(hosts, demo, output):
    put_treebank(hosts, demo)
    run(output, "upos", ud=UD)
    for read in (lambda file: readers.read("upos", file), readers.read_texts):
        ours, theirs = list(read(output / "train.conllu")), list(read(demo / "upos/train.conllu"))
        assert [getattr(each, "texts", each) for each in ours] == [
            getattr(each, "texts", each) for each in theirs
        ]


@pytest.mark.parametrize("parts", [[], ["a", "b"]], ids=["found", "named"])
def test_a_train_split_in_several_files_is_put_together(hosts, demo, output, parts):
    put_treebank(hosts, demo, ["train-a", "train-b", "dev", "test"])
    splits, _ = run(output, "upos", ud=UD | {"parts": parts})
    assert len(splits.train) == 300


def test_a_missing_split_is_cut_from_train_once_for_all(hosts, demo, output):
    put_treebank(hosts, demo, ["train", "test"])
    splits, source = run(output, "upos", ud=UD)
    assert source["cut_from_train"] == ["validation"]
    uncut = TaskData(
        kind="upos",
        language="qaa",
        train=str(demo / "upos/train.conllu"),
        test=str(demo / "upos/test.conllu"),
    )
    for split, expected in zip(splits[:3], data.load(uncut)[:3], strict=True):
        assert [each.texts for each in split] == [each.texts for each in expected]


def test_a_treebank_with_a_test_split_alone(hosts, demo, output):
    put_treebank(hosts, demo, ["test"])
    with pytest.raises(InputError, match=r"^UD_Qaa-Demo 2.17 has no train split, only test; take"):
        run(output, "upos", ud=UD)


def test_a_treebank_or_release_that_is_not_there(hosts, output):
    with pytest.raises(InputError, match=r"no such file; check ud.treebank, ud.release and ud"):
        run(output, "upos", ud=UD)


def test_a_treebank_whose_text_is_withheld(hosts, demo, output):
    put_treebank(hosts, demo)
    rows = "1\t_\t_\tNOUN\t_\t_\t_\t_\t_\t_\n2\t_\t_\tVERB\t_\t_\t_\t_\t_\t_\n\n"
    name = "UniversalDependencies/UD_Qaa-Demo/r2.17/qaa_demo-ud-train.conllu"
    put(hosts, name, rows * 12)
    with pytest.raises(InputError, match=r"12 of 12 sentences have no words .* is withheld"):
        run(output, "upos", ud=UD)
    assert not output.exists()


def test_sentences_without_tags_are_dropped_and_counted(hosts, demo, output):
    put_treebank(hosts, demo)
    name = "UniversalDependencies/UD_Qaa-Demo/r2.17/qaa_demo-ud-train.conllu"
    more = "1\tcode\t_\t_\t_\t_\t_\t_\t_\t_\n\n"
    put(hosts, name, (demo / "upos/train.conllu").read_text() + more)
    splits, source = run(output, "upos", ud=UD)
    assert source["dropped"] == {"train": {"a word has no tag": 1}}
    assert len(splits.train) == 150


def test_a_treebank_without_a_known_prefix(output):
    with pytest.raises(InputError, match=r"^ud.prefix: missing; UD_Qaa-Demo is not in the cat"):
        run(output, "upos", ud={"treebank": "UD_Qaa-Demo", "release": "2.17"})


# --- Hosts that fail


def test_files_put_in_place_are_taken_without_a_network(demo, output, monkeypatch):
    monkeypatch.setenv("ELIQUARE_RAW", "http://127.0.0.1:9")
    folder = output.with_name("task.raw")
    folder.mkdir(parents=True)
    for part in ("train", "test"):
        content = (demo / f"upos/{part}.conllu").read_bytes()
        (folder / f"qaa_demo-ud-{part}.conllu").write_bytes(content)
    _, source = run(output, "upos", ud=UD)
    assert source["cut_from_train"] == ["validation"]
    assert (folder / "qaa_demo-ud-train.conllu").exists()


def test_without_a_network_all_files_are_named_with_their_places(output, monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("ELIQUARE_RAW", "http://127.0.0.1:9")
    with pytest.raises(Failure) as failed:
        run(output, "upos", ud=UD)
    first, *others = str(failed.value).splitlines()
    assert "qaa_demo-ud-train.conllu: cannot be reached; check the connection; or put" in first
    assert first.endswith("tasks/task.raw/qaa_demo-ud-train.conllu")
    assert [line.partition(": ")[0].rpartition("-ud-")[2] for line in others] == [
        "dev.conllu",
        "test.conllu",
    ]


def test_a_host_that_drops_half_way(hosts, demo, output):
    put_treebank(hosts, demo)
    hosts.cut, hosts.knows_range = 10_000, False
    with pytest.raises(Failure, match=r"train.conllu: interrupted download: 10,000 of [\d,]+ by"):
        run(output, "upos", ud=UD)
    assert not output.exists()
    hosts.cut = 0
    splits, _ = run(output, "upos", ud=UD)
    assert len(splits.train) == 150


def test_a_host_that_drops_again_and_again_gets_there(hosts, demo, output):
    put_treebank(hosts, demo)
    hosts.cut = 20_000
    splits, _ = run(output, "upos", ud=UD)
    assert len(splits.train) == 150


@pytest.mark.parametrize("known", [False, True], ids=["first", "checksum known"])
def test_an_html_page_instead_of_a_file(hosts, demo, output, known):
    put_treebank(hosts, demo)
    if known:
        run(output, "upos", ud=UD)
    hosts.html = True
    with pytest.raises(Failure, match=r"an HTML page instead of a file .*or put the file at"):
        run(output, "upos", ud=UD)
    hosts.html = False
    run(output, "upos", ud=UD)


def test_a_file_that_changed_since_the_first_download(hosts, demo, output):
    put_treebank(hosts, demo)
    run(output, "upos", ud=UD)
    name = "UniversalDependencies/UD_Qaa-Demo/r2.17/qaa_demo-ud-test.conllu"
    put(hosts, name, (demo / "upos/dev.conllu").read_bytes())
    with pytest.raises(
        InputError, match=r"wrong checksum: .* an earlier download had .*remove the"
    ):
        run(output, "upos", ud=UD)
    output.with_name("checksums.json").unlink()
    run(output, "upos", ud=UD)


# --- Addresses and archives


def test_tables_at_addresses(hosts, demo, output):
    for part in ("train", "dev", "test"):
        put(hosts, f"files/{part}.tsv", (demo / f"topic/{part}.tsv").read_bytes())
    content = (demo / "topic/train.tsv").read_bytes()
    url = {
        "train": f"{hosts.root}/files/train.tsv?download=1",
        "validation": f"{hosts.root}/files/dev.tsv",
        "test": f"{hosts.root}/files/test.tsv",
        "sha256": {"train": hashlib.sha256(content).hexdigest()},
        "licence": "CC0",
    }
    splits, source = run(output, "classification", url=url)
    assert len(splits.train) == 150
    assert source["licence"] == "CC0"
    assert (output / "train.tsv").read_bytes() == content


def test_rows_without_label_or_text_are_dropped_and_counted(hosts, output):
    rows = "".join(f'"text, {n}",{n % 2}\n' for n in range(30))
    put(hosts, "files/train.csv", f"comment,label\n{rows}none,\n,1\n")
    url = {"train": f"{hosts.root}/files/train.csv"}
    splits, source = run(output, "classification", {"text_column": "comment"}, url=url)
    assert source["dropped"] == {"train": {"the label is empty": 1, "the text is empty": 1}}
    assert source["cut_from_train"] == ["validation", "test"]
    assert sum(map(len, splits[:3])) == 30


def test_a_split_whose_labels_are_all_empty(hosts, output):
    put(hosts, "files/train.csv", "text,label\n" + "a text,1\nanother,0\n" * 10)
    put(hosts, "files/test.csv", "text,label\n" + "a text,\n" * 10)
    url = {"train": f"{hosts.root}/files/train.csv", "test": f"{hosts.root}/files/test.csv"}
    with pytest.raises(InputError, match=r"no example in test \(the label is empty: 10\)"):
        run(output, "classification", url=url)


def test_a_table_without_a_line_of_columns(hosts, output):
    rows = "".join(f"{'sport' if n % 2 else 'news'},a text {n}\n" for n in range(20))
    put(hosts, "files/train.csv.gz", gzip.compress(rows.encode()))
    url = {"train": f"{hosts.root}/files/train.csv.gz", "header": ["label", "text"]}
    splits, _ = run(output, "classification", url=url)
    assert splits.labels == ["news", "sport"]
    assert sum(map(len, splits[:3])) == 20


def test_names_at_an_address(hosts, demo, output):
    for part in ("train", "test"):
        put(hosts, f"lab/ner/main/{part}.txt", (demo / f"ner/{part}.txt").read_bytes())
    root = "https://raw.githubusercontent.com/lab/ner/main"
    splits, _ = run(output, "ner", url={"train": f"{root}/train.txt", "test": f"{root}/test.txt"})
    expected = readers.read("ner", demo / "ner/test.txt")
    assert [each[:2] for each in splits.test] == [each[:2] for each in expected]


def test_a_wrong_checksum(hosts, output):
    put(hosts, "files/train.csv", "text,label\na,1\n" * 20)
    url = {"train": f"{hosts.root}/files/train.csv", "sha256": {"train": "0" * 64}}
    with pytest.raises(InputError, match=r"wrong checksum: sha256 \w+, the configuration says 00"):
        run(output, "classification", url=url)
    assert not output.exists()


def test_an_address_without_a_file(hosts, output):
    with pytest.raises(InputError, match=r"no such file on the host \(404\); .* put the file at"):
        run(output, "classification", url={"train": f"{hosts.root}/files/train.csv"})


def test_a_column_that_a_table_lacks(hosts, output):
    put(hosts, "files/train.csv", "comment,label\na,1\n")
    with pytest.raises(InputError, match="no column 'text'; the columns are 'comment', 'label'"):
        run(output, "classification", url={"train": f"{hosts.root}/files/train.csv"})


def archive_of(kind, files, links=()):
    """Return a .zip or .tar.gz with these files, and links to /etc/passwd."""
    content = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(content, "w") as file:
            for name, text in files.items():
                file.writestr(name, text)
            for name in links:
                entry = zipfile.ZipInfo(name)
                entry.external_attr = 0o120777 << 16
                file.writestr(entry, "/etc/passwd")
    else:
        with tarfile.open(fileobj=content, mode="w:gz") as file:
            for name, text in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(text.encode())
                file.addfile(entry, io.BytesIO(text.encode()))
            for name in links:
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
                file.addfile(entry)
    return content.getvalue()


TABLE = "text,label\n" + "".join(f"a{n},x\nb{n},y\n" for n in range(10))


def from_archive(hosts, output, kind, content, member="set/train.csv"):
    address = put(hosts, f"files/set.{kind}", content)
    url = {"archive": f"{hosts.root}/files/{address.name}", "train": member}
    return run(output, "classification", url=url)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_file_in_an_archive(hosts, output, kind):
    splits, _ = from_archive(hosts, output, kind, archive_of(kind, {"./set/train.csv": TABLE}))
    assert sum(map(len, splits[:3])) == 20
    left = {path.name for path in output.parent.iterdir() if not path.name.endswith(".lock")}
    assert left == {"checksums.json", "task"}


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("path", ["../evil.csv", "/etc/evil.csv", "a/../../evil.csv"])
def test_an_archive_with_a_path_that_leaves_its_folder(hosts, output, tmp_path, kind, path):
    content = archive_of(kind, {"set/train.csv": TABLE, path: TABLE})
    with pytest.raises(InputError, match=r"the path '.*evil.csv' in it leaves the archive's"):
        from_archive(hosts, output, kind, content)
    assert list(tmp_path.rglob("evil.csv")) == []


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_with_a_link_in_place_of_the_file(hosts, output, kind):
    content = archive_of(kind, {}, links=["set/train.csv"])
    with pytest.raises(
        InputError, match=r"'set/train.csv' in it is a link or a folder, not a file"
    ):
        from_archive(hosts, output, kind, content)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_with_an_absurdly_large_file(hosts, output, kind, monkeypatch):
    monkeypatch.setattr("eliquare.evaluation.archives.MOST_BYTES", 100)
    with pytest.raises(InputError, match=r"'set/train.csv' in it is absurdly large"):
        from_archive(hosts, output, kind, archive_of(kind, {"set/train.csv": TABLE}))


def test_an_archive_without_the_file_names_near_ones(hosts, output):
    content = archive_of("zip", {"set/data/train.csv": TABLE})
    with pytest.raises(
        InputError, match=r"no file 'set/train.csv' in it; near to it: set/data/tra"
    ):
        from_archive(hosts, output, "zip", content)


def test_a_file_that_is_no_archive(hosts, output):
    with pytest.raises(InputError, match=r"set.tar.gz: not an intact .zip or .tar.gz archive"):
        from_archive(hosts, output, "tar.gz", b"\x1f\x8b" + bytes(100))


def test_a_disk_that_is_full_is_no_fault_of_the_archive(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "set.zip").write_bytes(archive_of("zip", {"set/train.csv": TABLE}))
    monkeypatch.setattr(archives, "copy_at_most", full)
    with pytest.raises(Failure, match="No space left on device"):
        archives.unpacked(tmp_path / "set.zip", ["set/train.csv"], tmp_path)


def test_an_archive_with_a_byte_changed_is_refused(tmp_path):
    table = "text,label\n" + "".join(f"{n * n},{n % 2}\n" for n in range(300))
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("train.csv", table)
    whole = stored.getvalue()
    for place in range(40, 120):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        (tmp_path / "set.zip").write_bytes(changed)
        with contextlib.suppress(InputError):
            found = archives.unpacked(tmp_path / "set.zip", ["train.csv"], tmp_path)
            assert found["train.csv"].read_text() == table


def test_reviews_with_stars(hosts, output):
    def item(stars, text):
        parts = f"<category>books</category><rating>{stars}</rating><url>x</url>"
        return f"<item>{parts}<text>{text}</text><title>t</title></item>\n\n"

    good = [item("5.0", f"tr&egrave;s bon{'!' * n}\n") for n in range(12)]
    bad = [item("1.0", f"mauvais{'!' * n}") for n in range(12)]
    reviews = "".join(["<items>\n", *good, item("3.0", "bof"), *bad, "</items>\n"])
    content = archive_of("tar.gz", {"cls/fr/books/train.review": reviews})
    splits, _ = from_archive(hosts, output, "tar.gz", content, "cls/fr/books/train.review")
    assert splits.labels == ["negative", "positive"]
    assert sum(map(len, splits[:3])) == 24
    assert ("très bon!",) in {example.texts for part in splits[:3] for example in part}


# --- The hub


FEATURES = {
    "tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"},
    "ner_tags": {"feature": {"names": TAGS, "_type": "ClassLabel"}, "_type": "Sequence"},
}


def test_a_data_set_on_the_hub(hosts, output):
    files = {
        f"sl/{split}-00000-of-00001.parquet": parquet(names(count), FEATURES)
        for split, count in (("train", 30), ("validation", 10), ("test", 20))
    }
    card = """---
license: cc-by-4.0
configs:
- config_name: sl
  data_files:
  - {split: train, path: sl/train-*}
  - {split: validation, path: sl/validation-*}
  - {split: test, path: sl/test-*}
---
"""
    put_hub(hosts, files, card)
    splits, source = run(output, "ner", hub={"dataset": "lab/names", "configuration": "sl"})
    assert [len(split) for split in splits[:3]] == [30, 10, 20]
    assert splits.train[0].labels == ("B-PER", "I-PER", "O", "O")
    assert source["licence"] == "cc-by-4.0"
    # A branch is resolved to its commit.
    assert len(source["revision"]) == 40
    assert source["files"][0]["address"] == (
        f"{hosts.root}/datasets/lab/names/resolve/{source['revision']}/"
        "sl/train-00000-of-00001.parquet"
    )


def test_a_split_that_is_not_there_says_how_to_cut_one(hosts, output):
    put_hub(hosts, {"train.parquet": parquet(names(), FEATURES)})
    with pytest.raises(InputError, match=r"`validation: null` in hub cuts a tenth of train"):
        run(output, "ner", hub={"dataset": "lab/names"})


def test_a_data_set_without_label_names_takes_those_of_the_task(hosts, output):
    put_hub(hosts, {"train.parquet": parquet(names())})
    hub = {"dataset": "lab/names", "validation": None, "test": None}
    with pytest.raises(InputError, match=r"row 1: '1' is no IOB tag .* give the names of the num"):
        run(output, "ner", hub=hub)
    splits, source = run(output, "ner", hub=hub | {"labels": TAGS})
    assert splits.labels == ["O", "B-PER", "I-PER"]
    assert source["cut_from_train"] == ["validation", "test"]
    with pytest.raises(InputError, match=r"the label 2 has no name; hub.labels or the card name 2"):
        run(output, "ner", hub=hub | {"labels": TAGS[:2]})


def test_label_names_of_a_card(hosts, output):
    card = """---
dataset_info:
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': bad
          '1': good
---
"""
    rows = [{"text": f"text {n}", "label": n % 2} for n in range(40)]
    lines = "".join(json.dumps(row) + "\n" for row in [*rows, {"text": "x", "label": -1}])
    put_hub(hosts, {"data/train.jsonl": lines, "data/test.jsonl": lines}, card)
    hub = {"dataset": "lab/names", "validation": None}
    splits, source = run(output, "classification", hub=hub)
    assert splits.labels == ["bad", "good"]
    assert source["dropped"]["test"] == {"the label is empty": 1}


LANGUAGES_CARD = """---
configs:
- config_name: amh
  data_files: [{split: train, path: data/amh/train.jsonl}]
- config_name: swa
  data_files: [{split: train, path: data/swa/train.jsonl}]
dataset_info:
- config_name: amh
  features: [{name: label, dtype: {class_label: {names: {'0': good, '1': bad}}}}]
- config_name: swa
  features: [{name: label, dtype: {class_label: {names: {'0': bad, '1': good}}}}]
---
"""


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("data_dir: sw, data_files: [{split: train, path: '*train.csv'}]", "sw"),
        ("data_dir: sw, data_files: [{split: train, path: train.csv}]", "sw"),
        ("data_files: [{split: train, path: '*.csv'}]", "top"),
        ("data_files: [{split: train, path: '**/*.csv'}]", "cy sw top"),
    ],
)
def test_patterns_are_those_of_the_hub(hosts, output, config, expected):
    """Below the configuration's folder, and within one folder but for two asterisks."""
    places = {"cy/train.csv": "cy", "sw/train.csv": "sw", "train.csv": "top"}
    put_hub(
        hosts,
        {
            name: "text,label\n" + "".join(f"{word} {n},{n % 2}\n" for n in range(40))
            for name, word in places.items()
        },
        f"---\nconfigs:\n- {{config_name: default, {config}}}\n---\n",
    )
    hub = {"dataset": "lab/names", "validation": None, "test": None}
    splits, _ = run(output, "classification", hub=hub)
    found = {each.texts[0].split()[0] for part in splits[:3] for each in part}
    assert sorted(found) == expected.split()


def test_of_several_configurations_none_is_taken_unasked(hosts, output):
    rows = {
        language: "".join(
            json.dumps({"text": f"{language} {n}", "label": n % 2}) + "\n" for n in range(40)
        )
        for language in ("amh", "swa")
    }
    files = {f"data/{language}/train.jsonl": lines for language, lines in rows.items()}
    put_hub(hosts, files, LANGUAGES_CARD)
    hub = {"dataset": "lab/names", "validation": None, "test": None}
    with pytest.raises(InputError, match=r"it has 2 configurations.*hub\.configuration: amh, swa"):
        run(output, "classification", hub=hub)
    splits, _ = run(output, "classification", hub=hub | {"configuration": "swa"})
    # The card names the labels of each configuration in an order of its own.
    assert {(each.texts[0][:3], each.labels[0]) for each in splits.train} == {
        ("swa", "bad"),
        ("swa", "good"),
    }
    first = next(each for each in splits.train if each.texts[0] == "swa 1")
    assert first.labels == ("good",)
    default = LANGUAGES_CARD.replace("amh\n  data", "amh\n  default: true\n  data")
    put_hub(hosts, files, default)
    splits, _ = run(output, "classification", hub=hub)
    assert {each.texts[0][:3] for each in splits.train} == {"amh"}


def test_of_several_folders_with_one_split_none_is_taken_unasked(hosts, output):
    columns = {"text": [f"t{n}" for n in range(20)], "label": ["x", "y"] * 10}
    files = {f"{name}/train/0000.parquet": parquet(columns) for name in ("amh", "eng")}
    put_hub(hosts, files, revision="refs/convert/parquet")
    hub = {
        "dataset": "lab/names",
        "revision": "refs/convert/parquet",
        "validation": None,
        "test": None,
    }
    with pytest.raises(InputError, match=r"'train' is in the folders amh, eng; name one in hub"):
        run(output, "classification", hub=hub)
    run(output, "classification", hub=hub | {"configuration": "eng"})


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ('["EU", "rejects"]', ["EU", "rejects"]),
        ("['EU', 'rejects']", ["EU", "rejects"]),
        ("EU rejects", ["EU", "rejects"]),
        ("[1] EU [2]", ["[1]", "EU", "[2]"]),
        ("0", ["0"]),
        ("Hello", ["Hello"]),
        (["EU"], ["EU"]),
        (None, []),
    ],
)
def test_a_cell_with_a_list(cell, words):
    assert hub.as_list(cell) == words


def test_pairs_on_the_hub(hosts, output):
    columns = {
        "premise": [f"p{n}" for n in range(20)],
        "hypothesis": ["h"] * 20,
        "label": [0, 1] * 10,
    }
    put_hub(
        hosts, {"default/train/0000.parquet": parquet(columns)}, revision="refs/convert/parquet"
    )
    hub = {
        "dataset": "lab/names",
        "revision": "refs/convert/parquet",
        "validation": None,
        "test": None,
        "columns": {"text": "premise", "text_pair": "hypothesis"},
        "labels": ["entailment", "contradiction"],
    }
    splits, _ = run(output, "pair", hub=hub)
    assert splits.labels == ["contradiction", "entailment"]
    assert {len(example.texts) for example in splits.train} == {2}


def test_minimal_pairs_on_the_hub_are_a_test_split_alone(hosts, output):
    rows = ["sen\twrong_sen\tlang", "She sings.\tShe sing.\ten", "They sing.\tThey sing.\ten"]
    put_hub(hosts, {"eng/data.tsv": "\n".join([*rows, "He runs.\tHe run.\ten", ""])})
    columns = {"text": "sen", "text_pair": "wrong_sen"}
    hub = {"dataset": "lab/names", "configuration": "eng", "test": "train", "columns": columns}
    fetch(FetchOptions(kind="minimal_pairs", hub=hub, output=output))
    assert [file.name for file in sorted(output.iterdir())] == ["source.json", "test.tsv"]
    pairs = readers.read("minimal_pairs", output / "test.tsv", ["text", "text_pair"])
    assert [each.texts for each in pairs] == [("She sings.", "She sing."), ("He runs.", "He run.")]
    source = read_json(output / "source.json")
    assert source["dropped"] == {"test": {"the two sentences are the same": 1}}
    assert source["examples"] == {"test": 2}


def test_queries_on_the_hub_keep_documents_that_are_the_same(hosts, output):
    put_hub(hosts, {"test.tsv": "title\tbody\nNile\tNile\nRain\tIt rains.\n"})
    columns = {"text": "title", "text_pair": "body"}
    hub = {"dataset": "lab/names", "columns": columns}
    fetch(FetchOptions(kind="retrieval", hub=hub, output=output))
    pairs = readers.read("retrieval", output / "test.tsv", ["text", "text_pair"])
    assert [each.texts for each in pairs] == [("Nile", "Nile"), ("Rain", "It rains.")]


def test_similarities_at_an_address_may_have_both_texts_in_one_cell(hosts, output):
    put(hosts, "files/test.csv", 'PairID,Text,Score\n1,"it rains\nit pours",0.8\n2,"a\nb",0\n')
    fetch(
        FetchOptions(
            kind="similarity",
            url={"test": f"{hosts.root}/files/test.csv"},
            text_column="Text",
            label_column="Score",
            output=output,
        )
    )
    pair, _ = readers.read("similarity", output / "test.tsv", ["Score", "Text"])
    assert (pair.texts, pair.labels) == (("it rains", "it pours"), ("0.8",))


@pytest.mark.parametrize(
    ("row", "said"),
    [("it rains,0.8", "two texts"), ('"it rains\nit pours",high', "found 'high'")],
)
def test_what_is_no_similarity_is_refused_where_it_is_fetched(hosts, output, row, said):
    put(hosts, "files/test.csv", f"Text,Score\n{row}\n")
    columns = {"text_column": "Text", "label_column": "Score"}
    url = {"test": f"{hosts.root}/files/test.csv"}
    options = FetchOptions(kind="similarity", url=url, output=output, **columns)
    with pytest.raises(InputError, match=rf"test.csv, row 2: .*{said}"):
        fetch(options)
    # An automatic task says why, and the run goes on.
    fetch(options.model_copy(update={"allow_unavailable": True}))
    assert said in why_unavailable(output)


def test_similarities_on_the_hub_are_numbers(hosts, output):
    pairs = {"sentence1": ["a", "c"], "sentence2": ["b", "d"], "similarity_score": [5.0, 2.5]}
    put_hub(hosts, {"test.parquet": parquet(pairs)})
    columns = {"text": "sentence1", "text_pair": "sentence2", "label": "similarity_score"}
    hub = {"dataset": "lab/names", "columns": columns}
    fetch(FetchOptions(kind="similarity", hub=hub, output=output))
    found = readers.read("similarity", output / "test.tsv", ["label", "text", "text_pair"])
    assert [(each.texts, float(each.labels[0])) for each in found] == [
        (("a", "b"), 5.0),
        (("c", "d"), 2.5),
    ]


def test_upos_on_the_hub(hosts, output):
    columns = {"tokens": [["a", f"word{n}"] for n in range(20)], "upos": [["DET", "NOUN"]] * 20}
    put_hub(hosts, {"train.parquet": parquet(columns)})
    splits, _ = run(output, "upos", hub={"dataset": "lab/names", "validation": None, "test": None})
    assert splits.train[0].texts[0] == "a"


def test_a_data_set_whose_columns_changed(hosts, output):
    put_hub(hosts, {f"{split}.parquet": parquet({"words": [["a"]]}) for split in ("train", "test")})
    with pytest.raises(
        InputError,
        match=r"^lab/names: no column 'ner_tags', 'tokens' in train.parquet; the columns are words",
    ):
        run(output, "ner", hub={"dataset": "lab/names", "validation": None})


def test_a_script_data_set_is_refused(hosts, output):
    put_hub(hosts, {"names.py": "raise SystemExit", "data/train.jsonl": "{}"})
    with pytest.raises(InputError, match=r"a script data set, .* `revision: refs/convert/parquet`"):
        run(output, "ner", hub={"dataset": "lab/names"})


def test_pickles_are_not_data_files(hosts, output):
    put_hub(hosts, {"train.pkl": b"cos\nsystem\n(S'exit'\ntR."})
    with pytest.raises(InputError, match=r"no data file of the split 'train'; .*files: none"):
        run(output, "ner", hub={"dataset": "lab/names"})


def test_a_configuration_that_is_not_there(hosts, output):
    put_hub(hosts, {}, "---\nconfigs:\n- config_name: hr\n- config_name: sl\n---\n")
    with pytest.raises(
        InputError, match=r"'train' in the configuration 'xx'.* \(configurations: hr"
    ):
        run(output, "ner", hub={"dataset": "lab/names", "configuration": "xx"})


@pytest.mark.parametrize(
    ("hub", "said"),
    [
        ({"dataset": "lab/nothing"}, "lab/nothing: no such data set on the hub, or a private one"),
        ({"dataset": "lab/names", "revision": "v9"}, "lab/names: it has no revision 'v9'"),
    ],
)
def test_a_data_set_that_is_not_there(hosts, output, hub, said):
    put_hub(hosts, {"train.parquet": parquet(names())})
    with pytest.raises(InputError, match=said):
        run(output, "ner", hub=hub)


def test_a_hub_that_answers_with_a_page(hosts, output):
    hosts.html = True
    with pytest.raises(Failure, match=r"cannot be fetched .* put the data set's files, under"):
        run(output, "ner", hub={"dataset": "lab/names"})


def test_a_hub_that_drops_half_way(hosts, output):
    put_hub(hosts, {"train.parquet": parquet(names(2000), FEATURES)})
    hosts.cut, hosts.knows_range = 1000, False
    with pytest.raises(Failure, match="cannot be fetched"):
        run(output, "ner", hub={"dataset": "lab/names", "validation": None, "test": None})
    assert not output.exists()


def test_a_data_set_put_in_place(output):
    folder = output.with_name("task.raw")
    folder.mkdir(parents=True)
    (folder / "train.parquet").write_bytes(parquet(names(), FEATURES))
    hub = {"dataset": "lab/names", "validation": None, "test": None}
    splits, source = run(output, "ner", hub=hub)
    assert splits.labels == TAGS
    assert source["revision"] is None


# --- Optional tasks


def test_an_optional_source_that_is_not_there_says_why(hosts, output):
    options = FetchOptions(
        kind="ner", output=output, hub={"dataset": "lab/names"}, allow_unavailable=True
    )
    fetch(options)
    assert why_unavailable(output).endswith("no such data set on the hub, or a private one")
    assert [file.name for file in output.iterdir()] == ["unavailable.json"]
    # Once it is there, it replaces the reason.
    put_hub(hosts, {f"{s}.parquet": parquet(names()) for s in ("train", "validation", "test")})
    run(output, "ner", hub={"dataset": "lab/names", "labels": TAGS})
    assert not why_unavailable(output)


def test_an_optional_source_whose_host_is_down_is_tried_again(output, monkeypatch):
    monkeypatch.setenv("ELIQUARE_RAW", "http://127.0.0.1:9")
    options = FetchOptions(kind="upos", output=output, ud=UD, retries=0, allow_unavailable=True)
    with pytest.raises(Failure, match="cannot be reached"):
        fetch(options)
    assert not output.exists()


# --- The command


def test_on_the_command_line_a_mistake_is_one_line(hosts, tmp_path):
    command = [sys.executable, "-m", "eliquare", "evaluation", "fetch", "--kind", "upos"]
    command += ["--ud", json.dumps(UD), "--output", str(tmp_path / "task"), "--retries", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: https://raw.githubusercontent.com/")
    command[command.index("--ud") + 1] = '{"treebank": "Welsh", "release": "2.17"}'
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "expected a treebank's repository, as UD_Welsh-CCG" in done.stderr
