"""Dumps are downloaded from a real HTTP server, complete or not at all."""

import contextlib
import gzip
import hashlib
import http.server
import json
import re
import resource
import shutil
import threading

import pytest

from eliquare import cli, download
from eliquare.corpus import dump
from eliquare.io import Failure, InputError
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
    names = (path.name for path in output.parent.iterdir())
    return sorted(name for name in names if not name.endswith(".lock"))


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
    with pytest.raises(Failure, match=r"interrupted download: 2,949,120 of 3,072,000 bytes"):
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
    with pytest.raises(Failure, match="interrupted"):
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
    with pytest.raises(Failure, match="interrupted"):
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


def test_the_latest_dump_is_the_newest_that_is_finished(folder, tmp_path):
    shutil.rmtree(folder / "ukwiki" / "latest")
    begun = folder / "ukwiki" / "20991201"
    begun.mkdir()
    (begun / "ukwiki-20991201-sha1sums.txt").write_text(f"{'0' * 40}  ukwiki-20991201-other.gz\n")
    output = tmp_path / "dumps" / NAME
    fetch(folder, output, date="latest")
    assert output.read_bytes() == CONTENT
    with pytest.raises(InputError, match="--date 20991201"):
        fetch(folder, tmp_path / "dumps/other", date="20991201")


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
    with pytest.raises(Failure, match="cannot be reached; check the connection and --mirror"):
        fetch("http://127.0.0.1:9", tmp_path / "x.xml.bz2", retries=1)
    with pytest.raises(InputError, match="--mirror file:///tmp: expected"):
        fetch("file:///tmp", tmp_path / "x.xml.bz2")


def test_on_the_command_line_a_fault_of_the_moment_is_one_line_and_exit_code_1(
    server, tmp_path, capsys
):
    server.cut, server.knows_range = 1_500_000, False
    output = tmp_path / "dumps" / NAME
    command = ["corpus", "dump", "--wiki", "ukwiki", "--date", DATE, "--retries", "0"]
    with pytest.raises(SystemExit) as end:
        cli.main([*command, "--mirror", server.root, "--output", str(output)])
    assert end.value.code == cli.EXIT_FAILED
    said = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("failed: ") for line in said) == 1
    assert not output.exists()


class Odd(http.server.BaseHTTPRequestHandler):
    """Answers for a file in an odd way, the server's ``way``; for the list of it as is right."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        is_list = not self.path.endswith("bz2")
        content = self.list() if is_list else CONTENT
        way = self.server.way if is_list == self.server.of_list else ""
        asked = re.search(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin, end = int(asked[1]) if asked else 0, len(content)
        self.server.calls += way != ""
        status, body, headers = 206 if begin else 200, content[begin:], {}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{end}"
        if way == "another range" and begin:
            body, headers["Content-Range"] = content[5:], f"bytes 5-{end - 1}/{end}"
        elif way == "no range in the answer" and begin:
            headers = {}
        elif way == "a part of what was asked in full":
            status, headers["Content-Range"] = 206, f"bytes 5-9/{end}"
        elif way in ("compressed", "a bomb"):
            body = gzip.compress(content if way == "compressed" else bytes(50 << 20))
            status, headers = 200, {"Content-Encoding": "gzip"}
        elif way.startswith("to "):
            status, body, headers = 302, b"", {"Location": way.removeprefix("to ")}
        lengths = {"no length": None, "²": "²", "9…": "9" * 5000, "1, 2": "1, 2"}
        if length := lengths.get(way, str(len(body))):
            headers["Content-Length"] = length
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value.encode("utf-8").decode("latin-1"))
        self.end_headers()
        is_slow = way == "slow" and self.server.calls < 3
        with contextlib.suppress(ConnectionError):
            for byte in range(100 if is_slow else 0):
                self.wfile.write(body[byte : byte + 1])
                threading.Event().wait(0.01)
            self.wfile.write(body if not is_slow else b"")

    def list(self):
        return f"{hashlib.sha1(CONTENT).hexdigest()}  {NAME}\n".encode()


@pytest.fixture
def odd():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        server.way, server.calls, server.of_list = "", 0, False
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    "way", ["another range", "no range in the answer", "compressed", "no length", "²", "9…"]
)
def test_odd_answers_are_taken_or_begun_anew(odd, tmp_path, way):
    odd.way = way
    for kept in (b"", CONTENT[:1_500_000]):
        output = tmp_path / f"{len(kept)}" / NAME
        output.parent.mkdir()
        partial_of(output, CONTENT).write_bytes(kept)
        fetch(f"http://127.0.0.1:{odd.server_address[1]}", output, retries=2)
        assert output.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("a part of what was asked in full", "cannot be reached"),
        ("1, 2", "Content-Length"),
        ("to file:///etc/passwd", "file:///etc/passwd"),
        ("to ftp://127.0.0.1/x", "ftp://"),
        ("to http://[::1", "Invalid IPv6 URL"),
        ("to http://127.0.0.1:99999/", "99999|range"),
        ("to ?", "redirects"),
    ],
)
def test_answers_of_no_use_are_one_line(odd, tmp_path, way, said):
    odd.way = way
    with pytest.raises((InputError, Failure), match=said):
        fetch(f"http://127.0.0.1:{odd.server_address[1]}", tmp_path / NAME, retries=1)
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("address", ["http://", "http:///x", "http://a b/", "http://.x"])
def test_addresses_of_no_use_are_one_line(tmp_path, address):
    with pytest.raises((InputError, Failure)):
        fetch(address, tmp_path / NAME, retries=0)


def test_a_slow_connection_is_a_broken_one(odd, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(download, "SECONDS_WITHOUT_DATA", 0.2)
    monkeypatch.setattr(download, "LEAST_BYTES_PER_SECOND", 1_000)
    odd.way = "slow"
    fetch(f"http://127.0.0.1:{odd.server_address[1]}", tmp_path / NAME, retries=2)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert caplog.text.count("trying again") == 2
    assert odd.calls == 3


def test_a_list_without_end_is_refused(odd, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LONGEST_TEXT", 1 << 20)
    odd.way, odd.of_list = "a bomb", True
    with pytest.raises(InputError, match="more than 1,048,576 bytes"):
        fetch(f"http://127.0.0.1:{odd.server_address[1]}", tmp_path / NAME, retries=0)


def test_a_full_disk_keeps_what_came_and_goes_on(server, tmp_path):
    output = tmp_path / "dumps" / NAME
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(Failure, match=r"File too large.*Make room"):
            fetch(server.root, output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert left(output) == [partial_of(output, CONTENT).name]
    server.asked.clear()
    fetch(server.root, output)
    assert output.read_bytes() == CONTENT
    assert [given for path, given in server.asked if path.endswith(".bz2")] == ["bytes=1000000-"]


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
