"""Articles of real dumps, and what is refused of broken ones."""

import bz2
import gzip
import json
import subprocess
import sys
from collections import Counter

import psutil
import pytest
import zstandard
from corpus_data import DATA, HOST, needs_data
from hypothesis import given, settings
from hypothesis import strategies as st

from eliquare.corpus import articles, clean, compressed, documents, duplicates
from eliquare.stage import InputError

LATGALIAN = HOST / "ltgwiki" / "20170901" / "ltgwiki-20170901-pages-articles.xml.bz2"
UKRAINIAN = HOST / "ukwiki" / "20230501" / "ukwiki-20230501-pages-articles.xml.bz2"
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
    opened = {".bz2": bz2.open, ".gz": gzip.open, ".zst": zstandard.open}.get(path.suffix, open)
    with opened(path, "wb") as file:
        file.write(content)
    return path


def run(dump, output, *options):
    fixed = ["--dump", str(dump), "--output", str(output)]
    articles.run(articles.parser().parse_args([*fixed, *options]))
    return json.loads((output / "report.json").read_text())


def by_hand(dump, output):
    command = [sys.executable, "-m", "eliquare.corpus.articles", "--dump", str(dump)]
    return subprocess.run([*command, "--output", str(output)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def latgalian(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ltg") / "documents"
    return folder, run(LATGALIAN, folder)


@needs_data
def test_every_page_of_a_real_dump_is_kept_or_counted(latgalian):
    folder, report = latgalian
    xml = b"".join(compressed.blocks(LATGALIAN)).decode()
    assert report["pages"] == xml.count("<page>") == 2004
    assert report["pages"] == report["documents"] + sum(report["dropped"].values())
    assert report["dropped"]["other_namespace"] == 2004 - xml.count("<ns>0</ns>")
    kept = list(documents.read(folder))
    assert len(kept) == report["documents"] > 600
    assert len({document.id for document in kept}) == len(kept)
    positions = [xml.index(f"<ns>0</ns>\n    <id>{document.id}</id>") for document in kept]
    assert positions == sorted(positions)


@needs_data
def test_characters_are_counted_over_the_kept_text(latgalian):
    folder, report = latgalian
    truth = Counter("".join(document.text for document in documents.read(folder)))
    written = json.loads((folder / "characters.json").read_text())
    assert written == dict(truth)
    assert list(written.items()) == sorted(written.items(), key=lambda pair: (-pair[1], pair[0]))
    assert report["characters"] == truth.total()
    assert "ū" in written and "\n" in written


@needs_data
def test_text_of_a_real_dump_is_clean(latgalian):
    folder, _ = latgalian
    text = "\n".join(document.text for document in documents.read(folder))
    for remains in ("&lt;", "&amp;", "&nbsp;", "{{", "}}", "[[", "<ref", "<td", "formula_", "(;"):
        assert remains not in text, remains


@needs_data
def test_the_bytes_do_not_depend_on_the_number_of_processes(latgalian, tmp_path):
    folder, _ = latgalian
    run(LATGALIAN, tmp_path / "documents", "--processes", "3")
    for name in (documents.FILE, "report.json", "characters.json"):
        assert (folder / name).read_bytes() == (tmp_path / "documents" / name).read_bytes(), name


@needs_data
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("aawiki-no-articles.xml.bz2", "an empty corpus: 0 of 507 kept; dropped: 1 redirect, 505"),
        ("bgwiki-utf16.xml.bz2", "is UTF-16; Wikipedia dumps are UTF-8: convert it with iconv"),
        ("frwiki-schema-0.3.xml", "schema 0.3: page 1 has no <ns>"),
        ("mrwiki-truncated.xml.bz2", "ends in the middle of the compressed data (an interrupted"),
    ],
)
def test_a_broken_dump_is_refused_in_one_line(name, words, tmp_path):
    done = by_hand(DATA / "broken" / name, tmp_path / "documents")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert name in done.stderr and words in done.stderr
    assert list(tmp_path.iterdir()) == []


@needs_data
def test_a_dump_without_its_closing_tags_gives_its_whole_pages(tmp_path):
    done = by_hand(DATA / "broken" / "mrwiki-no-closing-tag.xml.bz2", tmp_path / "documents")
    assert done.returncode == 0, done.stderr
    words = "ends without </mediawiki>; its 1,820 whole pages are used, 1 cut page(s) left out"
    assert f"warning: {DATA}/broken/mrwiki-no-closing-tag.xml.bz2: {words}" in done.stderr
    report = json.loads((tmp_path / "documents" / "report.json").read_text())
    assert report["pages"] == 1820 and words in report["warnings"][0]


@needs_data
def test_near_duplicates_of_a_real_dump_are_near(tmp_path):
    """Ukrainian pages about years repeat each other; one that is dropped has its like."""
    kept = run(UKRAINIAN, tmp_path / "kept", "--max-documents", "150")
    run(UKRAINIAN, tmp_path / "all", "--near-duplicates", "no", "--max-documents", "170")
    stayed = {d.id: _shingles(d.text) for d in documents.read(tmp_path / "kept")}
    every = {d.id: _shingles(d.text) for d in documents.read(tmp_path / "all")}
    seen = list(every)[: list(every).index(list(stayed)[-1])]
    dropped = [name for name in seen if name not in stayed]
    assert len(dropped) > 10 and kept["dropped"]["near_duplicate"] >= len(dropped)
    for name in dropped:
        mine = every[name]
        assert max(len(mine & s) / len(mine | s) for s in stayed.values()) > 0.5


def _shingles(text):
    words = duplicates.WORD.findall(text.lower())
    return {tuple(words[i : i + 5]) for i in range(max(len(words) - 4, 1))}


@pytest.mark.parametrize("suffix", [".xml", ".xml.bz2", ".xml.gz", ".xml.zst"])
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
    }
    assert report["documents"] == 13 and report["pages"] == 19 and report["warnings"] == []
    kept = list(documents.read(tmp_path / "documents"))
    assert [document.id for document in kept] == [*map(str, range(1, 13)), "25"]
    assert kept[0].title == "Title 1" and kept[0].text == prose(1).strip()


def test_templates_are_dropped_or_expanded(tmp_path):
    pages = [page(n, prose(n)) for n in range(1, 11)]
    pages.append(page(11, "{{Greeting}} from here. " + prose(11)))
    template = page(12, "Hello <b>world</b>", namespace=10)
    pages.append(template.replace("Title 12", "Template:Greeting"))
    dump = small_dump(tmp_path / "dump.xml.gz", pages)
    run(dump, tmp_path / "dropped")
    run(dump, tmp_path / "expanded", "--expand-templates")
    assert list(documents.read(tmp_path / "dropped"))[-1].text.startswith("from here.")
    assert list(documents.read(tmp_path / "expanded"))[-1].text.startswith("Hello world from here.")


def test_max_documents_stops_early_and_leaves_no_process(tmp_path):
    dump = small_dump(tmp_path / "dump.xml", [page(n, prose(n)) for n in range(1, 300)])
    assert run(dump, tmp_path / "documents", "--max-documents", "20")["documents"] == 20
    running = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    assert not any("wikiextractor.WikiExtractor" in command for command in running)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a MediaWiki dump"),
        (b"<html><body>404</body></html>", "is not a MediaWiki dump"),
        (HEADER.replace("</siteinfo>", "").encode(), "has no <siteinfo>"),
        (HEADER.encode() + page(1, "x\n@").encode().replace(b"@", b"\xff"), "line 16: is not UTF"),
        (HEADER.encode() + b"</mediawiki>", "an empty corpus: 0 of 0 kept"),
    ],
)
def test_what_is_no_dump_is_refused(tmp_path, content, words):
    (tmp_path / "dump.xml").write_bytes(content)
    with pytest.raises(InputError, match=words):
        run(tmp_path / "dump.xml", tmp_path / "documents")
    assert not (tmp_path / "documents").exists()


@pytest.mark.parametrize("code", ["raise SystemExit('no memory')", "1/0"])
def test_a_failing_extractor_is_a_plain_error(tmp_path, monkeypatch, code):
    monkeypatch.setattr(articles, "PROGRAM", [sys.executable, "-c", code])
    dump = small_dump(tmp_path / "dump.xml", [page(n, prose(n)) for n in range(1, 12)])
    with pytest.raises(InputError, match=r"WikiExtractor failed.*(no memory|ZeroDivisionError)"):
        run(dump, tmp_path / "documents")
    assert not (tmp_path / "documents").exists()


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
def test_a_cut_file_is_told_for_every_compression(tmp_path, suffix):
    whole = small_dump(tmp_path / f"dump.xml{suffix}", [page(n, prose(n)) for n in range(100)])
    content = whole.read_bytes()
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(content + content)
    text = b"".join(compressed.blocks(whole))
    assert b"".join(compressed.blocks(joined)) == text + text
    for cut in (len(content) // 2, len(content) + len(content) // 2):
        joined.write_bytes((content + content)[:cut])
        with pytest.raises(InputError, match=f"joined{suffix}: ends in the middle"):
            list(compressed.blocks(joined))


@pytest.mark.parametrize(
    ("extracted", "expected"),
    [
        ("Kyiv (,)\u00a0— a city", "Kyiv\u00a0— a city"),
        ("Franko (, Nahuievychi) and (; 1650) and ()", "Franko (Nahuievychi) and (1650) and"),
        ("グレイ（）は", "グレイは"),
        ("K&amp;R C: if (a &lt; b) main() while(read())", "K&R C: if (a < b) main() while(read())"),
        ("a formula_12 b&lt;td align=left&gt;c", "a b c"),
        ("before [[File:a.jpg|thumb|words]] after [[A|b]]", "before after b"),
        ("one\n\n|- style=x\n| cell\n{| class=y\n* entry\n", "one\n* entry"),
    ],
)
def test_remains_of_markup(extracted, expected):
    assert clean.text(extracted) == expected


@given(st.lists(st.integers(min_value=0, max_value=2**64 - 1) | st.integers(0, 50), max_size=3000))
@settings(max_examples=20, deadline=None)
def test_the_set_of_keys_is_a_set(keys):
    known, truth = duplicates.KeySet(), set()
    for key in keys:
        key = key or 1
        assert (key in known) == (key in truth)
        known.add(key)
        truth.add(key)
    assert known.size == len(truth)


def test_the_share_of_pairs_that_share_a_band_follows_their_similarity():
    """The S-curve of banding: 1 - (1 - s^16)^8."""
    found = Counter()
    for trial in range(60):
        words = [f"{trial}w{n}" for n in range(1004)]  # 1000 shingles
        for changed in (1, 60):
            other = list(words)
            for n in range(changed):
                other[n * 16 + 2] = f"{trial}new{n}"
            found[changed] += bool(
                set(duplicates.band_keys(" ".join(words)))
                & set(duplicates.band_keys(" ".join(other)))
            )
    assert found[1] == 60  # similarity 0.99
    assert found[60] <= 5  # similarity 0.54
