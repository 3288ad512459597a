"""Articles of dumps, the demo's and real ones, and what is refused of broken ones."""

import bz2
import gzip
import json
import lzma
import re
import subprocess
import sys
import time
import tracemalloc
from collections import Counter

import psutil
import pytest
import zstandard

import worlds
from eliquare.corpus import documents, extractor, wikipedia, wikitext
from eliquare.corpus.extractor import Extractor, PageError, TooSlow, is_dead
from eliquare.io import Failure, InputError
from real_data import DATA, needs_data

UKRAINIAN = DATA / (
    "mirror/dumps.wikimedia.org/ukwiki/20230501/ukwiki-20230501-pages-articles.xml.bz2"
)
HEADER = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10">
  <siteinfo>
    <base>https://xx.wikipedia.org/wiki/Main</base>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="10" case="first-letter">Template</namespace>
    </namespaces>
  </siteinfo>
"""
PROSE = "This is article number {n}, and it has words of its own kind: {words}. "


def page(number, text, namespace=0, redirect=False):
    mark = '    <redirect title="Other" />\n' if redirect else ""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return (
        f"  <page>\n    <title>Title {number}</title>\n    <ns>{namespace}</ns>\n"
        f"    <id>{number}</id>\n{mark}    <revision>\n      <id>9{number}</id>\n"
        f'      <text xml:space="preserve">{escaped}</text>\n    </revision>\n  </page>\n'
    )


def prose(number):
    words = " ".join(
        "".join("abcdefghij"[int(d)] for d in f"{number * 100 + i}") for i in range(40)
    )
    return PROSE.format(n=number, words=words)


def small_dump(path, pages, closing="</mediawiki>\n"):
    content = (HEADER + "".join(pages) + closing).encode()
    opened = {".bz2": bz2.open, ".gz": gzip.open, ".xz": lzma.open, ".zst": zstandard.open}
    with opened.get(path.suffix, open)(path, "wb") as file:
        file.write(content)
    return path


def run(dump, output, **options):
    wikipedia.extract(wikipedia.DumpOptions(dump=dump, output=output, **options))
    return json.loads((output / "report.json").read_text())


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A dump of a demo language, its documents folder and the folder's report."""
    folder = tmp_path_factory.mktemp("demo")
    dump = worlds.write_dump(folder / "mirror")
    return dump, folder / "documents", run(dump, folder / "documents")


def test_every_page_of_a_dump_is_kept_or_counted(demo):
    dump, folder, report = demo
    xml = bz2.decompress(dump.read_bytes()).decode()
    assert report["pages"] == xml.count("<page>")
    assert report["pages"] == report["documents"] + sum(report["dropped"].values())
    assert report["dropped"]["other_namespace"] == xml.count("<page>") - xml.count("<ns>0</ns>")
    assert report["dropped"]["redirect"] == xml.count("<redirect ")
    kept = list(documents.read(folder))
    assert len(kept) == report["documents"] > 50
    assert len({document.id for document in kept}) == len(kept)
    positions = [xml.index(f"<ns>0</ns>\n    <id>{document.id}</id>") for document in kept]
    assert positions == sorted(positions)


def test_characters_are_counted_over_the_kept_text(demo):
    _, folder, report = demo
    truth = Counter("".join(document.text for document in documents.read(folder)))
    written = json.loads((folder / "characters.json").read_text())
    assert written == dict(truth)
    assert list(written.items()) == sorted(written.items(), key=lambda pair: (-pair[1], pair[0]))
    assert report["characters"] == truth.total()
    assert "\n" in written


def test_text_is_clean(demo):
    _, folder, _ = demo
    text = "\n".join(document.text for document in documents.read(folder))
    for remains in ("&lt;", "&amp;", "&nbsp;", "{{", "}}", "[[", "<ref", "<td", "formula_", "(;"):
        assert remains not in text, remains


def test_the_bytes_do_not_depend_on_the_number_of_processes(demo, tmp_path):
    dump, folder, _ = demo
    run(dump, tmp_path / "documents", processes=4)
    for name in (documents.FILE, "report.json", "characters.json"):
        assert (folder / name).read_bytes() == (tmp_path / "documents" / name).read_bytes(), name


@needs_data
def test_text_of_a_real_dump_is_clean(tmp_path):
    report = run(UKRAINIAN, tmp_path / "documents", max_documents=100)
    assert report["documents"] == 100
    test_text_is_clean((None, tmp_path / "documents", report))


def test_on_the_command_line_a_broken_dump_is_one_line_and_exit_code_2(tmp_path):
    whole = small_dump(tmp_path / "dump.xml.bz2", [page(n, prose(n)) for n in range(1, 50)])
    cut = tmp_path / "cut.xml.bz2"
    cut.write_bytes(whole.read_bytes()[:-200])
    command = [sys.executable, "-m", "eliquare", "corpus", "documents", "--dump", str(cut)]
    command += ["--output", str(tmp_path / "documents")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {cut}: ends in the middle of the compressed data")
    assert done.stderr.count("\n") == 1, done.stderr
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"cut.xml.bz2", "dump.xml.bz2", ".documents.lock"}


def test_a_dump_without_its_closing_tags_gives_its_complete_pages(tmp_path):
    pages = [page(n, prose(n)) for n in range(1, 13)]
    pages[-1] = pages[-1][:-60]
    report = run(small_dump(tmp_path / "dump.xml", pages, closing=""), tmp_path / "documents")
    assert report["pages"] == report["documents"] == 11
    (warning,) = report["warnings"]
    assert "its 11 complete pages are used, 1 truncated page(s) left out" in warning


@needs_data
def test_near_duplicates_of_a_real_dump_are_near(tmp_path):
    """Ukrainian pages about years begin alike; one that is dropped has its like."""
    run(UKRAINIAN, tmp_path / "all", near_duplicates=False, max_documents=170)
    begins = [each._replace(text=each.text[:600]) for each in documents.read(tmp_path / "all")]
    options = wikipedia.DumpOptions(dump=UKRAINIAN, output=tmp_path / "kept")
    documents.write(options, begins, documents.Report("begins of pages"))
    stayed = {d.id: _shingles(d.text) for d in documents.read(tmp_path / "kept")}
    dropped = [_shingles(each.text) for each in begins if each.id not in stayed]
    assert len(dropped) > 10
    for mine in dropped:
        assert max(len(mine & s) / len(mine | s) for s in stayed.values()) > 0.5


def _shingles(text):
    words = documents.WORD.findall(text.lower())
    return {tuple(words[i : i + 5]) for i in range(max(len(words) - 4, 1))}


@pytest.mark.parametrize("suffix", [".xml", ".xml.bz2", ".xml.gz", ".xml.xz", ".xml.zst"])
def test_what_is_dropped_is_counted(tmp_path, suffix):
    long = " ".join(prose(n) for n in range(500, 530))
    pages = [page(n, prose(n)) for n in range(1, 13)]
    pages += [
        page(20, "#REDIRECT [[Other]]", redirect=True),
        page(21, prose(21), namespace=10),
        page(22, "Too short."),
        page(23, "\n".join(f"* [[Entry {n}]]" for n in range(40))),
        page(24, prose(3)),
        page(25, long),
        page(26, long + " One more word."),
    ]
    report = run(small_dump(tmp_path / f"dump{suffix}", pages), tmp_path / "documents")
    assert report["dropped"] == {
        "redirect": 1,
        "other_namespace": 1,
        "short": 2,  # WikiExtractor drops the entries of the list, which leaves nothing of it
        "list": 0,
        "exact_duplicate": 1,
        "near_duplicate": 1,
        "time_limit": 0,
        "size_limit": 0,
        "extraction_failed": 0,
    }
    assert report["dropped_parts"] == {"list_items": 40}
    assert (report["documents"], report["pages"], report["warnings"]) == (13, 19, [])
    kept = list(documents.read(tmp_path / "documents"))
    assert [document.id for document in kept] == [*map(str, range(1, 13)), "25"]
    assert kept[0][1:] == ("Title 1", prose(1).strip())


def test_templates_are_dropped_or_expanded(tmp_path):
    pages = [page(n, prose(n)) for n in range(1, 11)]
    pages.append(page(11, "{{Greeting}} from here. " + prose(11)))
    template = page(12, "Hello <b>world</b>", namespace=10)
    pages.append(template.replace("Title 12", "Template:Greeting"))
    dump = small_dump(tmp_path / "dump.xml.gz", pages)
    run(dump, tmp_path / "dropped")
    run(dump, tmp_path / "expanded", expand_templates=True)
    assert list(documents.read(tmp_path / "dropped"))[-1].text.startswith("from here.")
    assert list(documents.read(tmp_path / "expanded"))[-1].text.startswith("Hello world from here.")


def test_max_documents_stops_early_and_leaves_no_process(tmp_path):
    dump = small_dump(tmp_path / "dump.xml", [page(n, prose(n)) for n in range(1, 300)])
    assert run(dump, tmp_path / "documents", max_documents=20)["documents"] == 20
    running = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    assert not any("wikiextractor.WikiExtractor" in command for command in running)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a MediaWiki dump"),
        (b"<html><body>404</body></html>", "is not a MediaWiki dump"),
        (HEADER.replace("</siteinfo>", "").encode(), "has a <siteinfo> before its pages"),
        (HEADER.encode() + page(1, "x\n@").encode().replace(b"@", b"\xff"), "is not UTF-8"),
        (HEADER.encode() + b"</mediawiki>", "an empty corpus: 0 of 0 kept"),
        (
            b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(99),
            "is a 7z archive, which is not read; unpack it",
        ),
        (HEADER.encode("utf-16"), "is not a MediaWiki dump: expected .* in UTF-8"),
        (
            HEADER.replace("0.10", "0.3").encode()
            + page(1, "x").replace("<ns>0</ns>", "").encode(),
            "page 1 has no <ns>",
        ),
    ],
)
def test_what_is_no_dump_is_refused(tmp_path, content, words):
    (tmp_path / "dump.xml").write_bytes(content)
    with pytest.raises(InputError, match=words):
        run(tmp_path / "dump.xml", tmp_path / "documents")
    assert not (tmp_path / "documents").exists()


@pytest.mark.parametrize("code", ["raise SystemExit('no memory')", "1/0"])
def test_a_failing_extractor_is_a_plain_error(tmp_path, monkeypatch, code):
    monkeypatch.setattr(extractor, "PROGRAM", [sys.executable, "-c", code])
    dump = small_dump(tmp_path / "dump.xml", [page(n, prose(n)) for n in range(1, 12)])
    with pytest.raises(Failure, match=r"WikiExtractor failed.*(no memory|ZeroDivisionError)"):
        run(dump, tmp_path / "documents")
    assert not (tmp_path / "documents").exists()


def test_a_page_that_cannot_be_read_is_dropped_counted_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(wikipedia, "PAGE_BYTES", 2 << 20)
    texts = {
        7: TooSlow("took more than 60 s"),
        8: PageError("RecursionError: too deep"),
        9: "[[" + "a:.a" * 5_000,
    }
    monkeypatch.setattr(wikitext, "CLEAN_SECONDS", 0.001)
    monkeypatch.setattr(
        Extractor,
        "texts",
        lambda _, pages: (texts.get(n, text) for n, (_, text) in enumerate(pages, start=1)),
    )
    pages = [page(n, prose(n)) for n in range(1, 13)]
    pages.insert(3, page(99, "word " * (1 << 20)).replace("Title 99", "A &amp; B"))
    dump = small_dump(tmp_path / "dump.xml.bz2", pages)
    report = run(dump, tmp_path / "documents", min_documents=5)
    reasons = {key: n for key, n in report["dropped"].items() if n}
    assert reasons == {"size_limit": 1, "time_limit": 2, "extraction_failed": 1}
    assert (report["pages"], report["documents"]) == (13, 9)
    assert report["warnings"] == [
        "page 99 (A & B) is dropped: more than 2 MiB",
        "page 7 (Title 7) is dropped: WikiExtractor took more than 60 s",
        "page 8 (Title 8) is dropped: WikiExtractor failed: RecursionError: too deep",
        "page 9 (Title 9) is dropped: it took too long to clean",
    ]


def test_memory_does_not_grow_with_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr(wikipedia, "PAGE_BYTES", 1 << 20)
    dump = small_dump(tmp_path / "dump.xml.bz2", [page(1, prose(1)), page(2, "0" * (24 << 20))])
    tracemalloc.start()
    try:
        assert [each.id for each in wikipedia.Pages(dump, documents.Report(""))] == ["1"]
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("namespaces", ["", "Mall"])
def test_titles_say_nothing_of_namespaces(tmp_path, namespaces):
    """In Swedish the template namespace is Mall; other tools leave the namespaces out."""
    header = HEADER.replace("Template", "Mall")
    if not namespaces:
        header = re.sub(r"(?s) *<namespaces>.*</namespaces>\n", "", header)
    pages = [page(n, prose(n)) for n in range(1, 13)]
    pages[3] = pages[3].replace("Title 4", "Mallorca: AT&amp;T in %s")
    pages[4] = re.sub("<text.*</text>", '<text bytes="0" />', pages[4])
    (tmp_path / "dump.xml").write_text(header + "".join(pages) + "</mediawiki>\n")
    report = run(tmp_path / "dump.xml", tmp_path / "documents", expand_templates=bool(namespaces))
    assert (report["documents"], report["dropped"]["short"], report["warnings"]) == (11, 1, [])
    kept = list(documents.read(tmp_path / "documents"))
    assert kept[3] == ("4", "Mallorca: AT&T in %s", prose(4).strip())
    assert [each.id for each in kept] == [str(n) for n in range(1, 13) if n != 5]


def test_nothing_runs_on_when_the_stage_is_killed(tmp_path):
    dump = small_dump(tmp_path / "dump.xml", [page(n, prose(n) * 20) for n in range(1, 3000)])
    command = [sys.executable, "-m", "eliquare", "corpus", "documents", "--dump", str(dump)]
    command += ["--output", str(tmp_path / "documents"), "--processes", "2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as stage:
        started, deadline = [], time.monotonic() + 120
        while not any(name == "watch" for name in started):
            children = psutil.Process(stage.pid).children(recursive=True)
            started = [word for child in children for word in cmdline(child)]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        stage.kill()
    deadline = time.monotonic() + 60
    while not all(map(is_dead, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [cmdline(child) for child in children if not is_dead(child)] == []


def cmdline(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.parametrize(
    ("extracted", "expected"),
    [
        ("Kyiv (,)\u00a0— a city", "Kyiv\u00a0— a city"),
        ("Franko (, Nahuievychi) and (; 1650) and ()", "Franko (Nahuievychi) and (1650) and"),
        ("グレイ（）は", "グレイは"),
        ("K&amp;R C: if (a &lt; b) main() while(read())", "K&R C: if (a < b) main() while(read())"),
        ("a formula_12 b&lt;td align=left&gt;c", "a b c"),
        ("before [[File:a.jpg|thumb|words]] after [[A|b]]", "before after b"),
        ("one\n\n|- style=x\n| cell\n{| class=y\n* entry\n", "one"),
    ],
)
def test_remains_of_markup(extracted, expected):
    assert wikitext.clean(extracted) == expected
