"""Dumps are downloaded from a real HTTP server, complete or not at all."""

import hashlib
import json
import shutil
import subprocess
import sys

import pytest

from eliquare import cli, download
from eliquare.corpus import dump
from eliquare.io import InputError
from hosts import Hosts
from real_data import DATA, needs_data

DATE = "20230501"
NAME = f"ukwiki-{DATE}-pages-articles.xml.bz2"
CONTENT = bytes(range(256)) * 12_000  # three blocks


def sha1(path):
    return hashlib.sha1(path.read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path):
    """A mirror with one wiki of one date."""
    root = tmp_path / "mirror"
    put(root, CONTENT)
    return root


def put(root, content, date=DATE):
    dated = root / "ukwiki" / date
    dated.mkdir(parents=True, exist_ok=True)
    name = NAME.replace(DATE, date)
    (dated / name).write_bytes(content)
    listing = f"{sha1(dated / name)}  {name}\n{'0' * 40}  ukwiki-{date}-other.gz\n"
    (dated / f"ukwiki-{date}-sha1sums.txt").write_text(listing)
    latest = root / "ukwiki" / "latest"
    latest.mkdir(exist_ok=True)
    (latest / "ukwiki-latest-sha1sums.txt").write_text(listing)


@pytest.fixture
def server(folder):
    with Hosts(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)


def fetch(mirror, output, wiki="ukwiki", date=DATE, **options):
    dump.download(
        dump.DownloadOptions(wiki=wiki, date=date, mirror=str(mirror), output=output, **options)
    )


def left(output):
    return sorted(path.name for path in output.parent.iterdir())


@pytest.mark.parametrize("web", [True, False], ids=["http", "folder"])
def test_a_dump_is_downloaded(server, folder, tmp_path, web):
    output = tmp_path / "dumps" / NAME
    fetch(server.root if web else folder, output)
    assert output.read_bytes() == CONTENT
    assert left(output) == [NAME]


def test_a_dump_that_is_there_is_not_downloaded_again(server, tmp_path):
    output = tmp_path / "dumps" / NAME
    fetch(server.root, output)
    server.asked.clear()
    fetch(server.root, output)
    assert [path for path, _ in server.asked if path.endswith(".bz2")] == []


@pytest.mark.parametrize("knows_range", [True, False], ids=["range", "no range"])
def test_an_interrupted_download_is_kept_and_resumed(server, tmp_path, knows_range, caplog):
    caplog.set_level("INFO")
    output = tmp_path / "dumps" / NAME
    server.cut, server.knows_range = len(CONTENT) - 100_000, False
    with pytest.raises(InputError, match=r"interrupted download: 2,949,120 of 3,072,000 bytes"):
        fetch(server.root, output, retries=1)
    assert left(output) == [partial_of(output, CONTENT).name]

    server.cut, server.knows_range = 0, knows_range
    server.asked.clear()
    fetch(server.root, output)
    assert output.read_bytes() == CONTENT
    assert left(output) == [NAME]
    asked = [given for path, given in server.asked if path.endswith(".bz2")]
    assert asked == ["bytes=2949120-"]
    assert ("resumed at 2,949,120" in caplog.text) == knows_range


def test_a_connection_that_breaks_again_and_again_still_gets_there(server, tmp_path):
    server.cut = 400_000
    output = tmp_path / "dumps" / NAME
    fetch(server.root, output, retries=1)
    assert output.read_bytes() == CONTENT


def partial_of(output, content):
    return output.with_name(f"{output.name}.{hashlib.sha1(content).hexdigest()[:8]}.partial")


@pytest.mark.parametrize("kept", [CONTENT[::-1][:1_500_000], CONTENT + b"more"])
def test_a_kept_beginning_of_another_file_is_downloaded_from_its_start(server, tmp_path, kept):
    output = tmp_path / "dumps" / NAME
    output.parent.mkdir()
    partial_of(output, CONTENT).write_bytes(kept)
    fetch(server.root, output)
    assert output.read_bytes() == CONTENT
    assert left(output) == [NAME]


def test_a_dump_that_changed_meanwhile_is_not_resumed(server, folder, tmp_path):
    output = tmp_path / "dumps" / NAME
    server.cut, server.knows_range = 1_500_000, False
    with pytest.raises(InputError, match="interrupted"):
        fetch(server.root, output, retries=0)
    put(folder, CONTENT[::-1])
    server.cut, server.knows_range = 0, True
    server.asked.clear()
    fetch(server.root, output)
    assert output.read_bytes() == CONTENT[::-1]
    assert [given for path, given in server.asked if path.endswith(".bz2")] == [None]


def test_a_partial_file_that_is_complete_is_taken(server, tmp_path):
    output = tmp_path / "dumps" / NAME
    output.parent.mkdir()
    partial_of(output, CONTENT).write_bytes(CONTENT)
    fetch(server.root, output)
    assert output.read_bytes() == CONTENT


@pytest.mark.parametrize("web", [True, False], ids=["http", "folder"])
def test_a_wrong_checksum_leaves_nothing(server, folder, tmp_path, web):
    dated = folder / "ukwiki" / DATE
    (dated / NAME).write_bytes(CONTENT[:-1] + b"?")
    output = tmp_path / "dumps" / NAME
    with pytest.raises(InputError, match=f"{NAME}: wrong checksum: sha1 .* the host lists"):
        fetch(server.root if web else folder, output)
    assert left(output) == []


def test_latest_stays_until_asked_to_move(server, folder, tmp_path):
    output = tmp_path / "dumps" / "ukwiki-latest-pages-articles.xml.bz2"
    pin = output.with_name("ukwiki-latest-pages-articles.json")
    fetch(server.root, output, date="latest")
    assert json.loads(pin.read_text()) == {
        "wiki": "ukwiki",
        "date": DATE,
        "url": f"{server.root}/ukwiki/{DATE}/{NAME}",
        "sha1": sha1(output),
    }
    put(folder, b"newer", date="20230601")
    output.unlink()
    fetch(server.root, output, date="latest")
    assert output.read_bytes() == CONTENT
    fetch(server.root, output, date="latest", move_latest=True)
    assert output.read_bytes() == b"newer"
    assert json.loads(pin.read_text())["date"] == "20230601"


def test_latest_means_the_same_when_an_interrupted_download_goes_on(server, folder, tmp_path):
    output = tmp_path / "dumps" / "ukwiki-latest-pages-articles.xml.bz2"
    server.cut, server.knows_range = 1_500_000, False
    with pytest.raises(InputError, match="interrupted"):
        fetch(server.root, output, retries=0, date="latest")
    put(folder, b"newer", date="20230601")
    server.cut, server.knows_range = 0, True
    fetch(server.root, output, date="latest")
    assert output.read_bytes() == CONTENT


def test_a_mirror_folder_without_latest_gives_its_newest_date(folder, tmp_path):
    shutil.rmtree(folder / "ukwiki" / "latest")
    put(folder, b"older", date="20220101")
    shutil.rmtree(folder / "ukwiki" / "latest")
    output = tmp_path / "dumps" / NAME
    fetch(folder, output, date="latest")
    assert output.read_bytes() == CONTENT


@pytest.mark.parametrize("web", [True, False], ids=["http", "folder"])
@pytest.mark.parametrize("date", ["latest", DATE])
def test_a_code_that_is_no_wikipedia(server, folder, tmp_path, web, date):
    mirror = server.root if web else folder
    with pytest.raises(InputError, match=r"--wiki xxwiki .* dates there: none; .* ukwiki"):
        fetch(mirror, tmp_path / "x.xml.bz2", wiki="xxwiki", date=date)
    assert list(tmp_path.glob("x*")) == []


@pytest.mark.parametrize("web", [True, False], ids=["http", "folder"])
def test_the_error_of_another_date_lists_the_dates(server, folder, tmp_path, web):
    with pytest.raises(InputError, match=f"--date 20200101: .* dates there: {DATE}"):
        fetch(server.root if web else folder, tmp_path / "x.xml.bz2", date="20200101")


def test_a_host_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be reached; check the connection and --mirror"):
        fetch("http://127.0.0.1:9", tmp_path / "x.xml.bz2", retries=1)
    with pytest.raises(InputError, match="--mirror file:///tmp: expected"):
        fetch("file:///tmp", tmp_path / "x.xml.bz2")


def test_on_the_command_line_an_interrupted_download_is_one_line_and_exit_code_2(server, tmp_path):
    server.cut, server.knows_range = 1_500_000, False
    output = tmp_path / "dumps" / NAME
    command = [sys.executable, "-m", "eliquare", "corpus", "dump"]
    command += ["--wiki", "ukwiki", "--date", DATE]
    command += ["--mirror", server.root, "--output", str(output), "--retries", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert sum(line.startswith("error: ") for line in done.stderr.splitlines()) == 1
    assert not output.exists()


@needs_data
def test_the_real_mirror(tmp_path):
    output = tmp_path / NAME
    with Hosts(DATA / "mirror/dumps.wikimedia.org") as server:
        fetch(server.root, output, date="latest")
    assert sha1(output) == "0cc91ef3179d27c56c0bf41a6add04c7c727f0bb"


def test_a_password_in_an_address_is_refused_and_not_printed(tmp_path, monkeypatch, capsys):
    words = ["corpus", "dump", "--wiki", "qaawiki", "--output", str(tmp_path / "a.xml.bz2")]
    address = "https://me:s3cr3t@host.example"
    for more, variable in ((["--mirror", address], ""), ([], address)):
        monkeypatch.setenv("ELIQUARE_DUMPS", variable)
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, *more])
        assert ended.value.code == 2
        printed = capsys.readouterr().err
        assert "~/.netrc" in printed
        assert "s3cr3t" not in printed
