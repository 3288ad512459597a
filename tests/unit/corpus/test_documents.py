"""Documents folders: compressed files, duplicates, lists, what is written and read."""

import bz2
import gzip
import lzma
import tracemalloc
from collections import Counter

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from eliquare.corpus import documents
from eliquare.corpus.documents import CorpusOptions, Document, Report
from eliquare.io import InputError, read_json

COMPRESS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_truncated_file_is_an_error_for_every_compression(tmp_path, suffix):
    text = "".join(f"line {n} of a text\n" for n in range(5000)).encode()
    content = COMPRESS[suffix](text)
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(content + content)
    assert b"".join(documents.read_blocks(joined)) == text + text
    assert len(list(documents.read_lines(joined))) == 10_000
    for size in (len(content) // 2, len(content) - 1, len(content) + len(content) // 2):
        joined.write_bytes((content + content)[:size])
        with pytest.raises(InputError, match=f"joined{suffix}: ends in the middle"):
            list(documents.read_blocks(joined))


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_damaged_file_is_an_error_for_every_compression(tmp_path, suffix):
    content = bytearray(COMPRESS[suffix](bytes(range(256)) * 1000))
    for place in range(len(content) // 2, len(content)):
        content[place] ^= 0xFF
    (tmp_path / f"damaged{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=f"damaged{suffix}: "):
        list(documents.read_blocks(tmp_path / f"damaged{suffix}"))


def test_a_damaged_documents_folder_is_an_error(tmp_path):
    with zstandard.open(tmp_path / documents.FILE, "wb") as file:
        file.write(b'{"id": "1", "title": "", "text": "a"}\n{"id": "2"}\n')
    with pytest.raises(InputError, match=r"documents.jsonl.zst, line 2: expected a JSON object"):
        list(documents.read(tmp_path))


def test_lines_are_whole_wherever_a_block_ends(tmp_path, monkeypatch):
    content = b"\n\none\n" + b"two" * 9 + b"\n\nthree\n" + b"four"
    (tmp_path / "lines.txt").write_bytes(content)
    for size in range(1, 12):
        monkeypatch.setattr(documents, "BLOCK_BYTES", size)
        assert list(documents.read_lines(tmp_path / "lines.txt")) == content.split(b"\n")


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_line_without_end_is_refused_in_bounded_memory(tmp_path, monkeypatch, suffix):
    """As a few kilobytes that decompress to gigabytes of zeros are."""
    monkeypatch.setattr(documents, "LINE_BYTES", 2 << 20)
    bomb = tmp_path / f"bomb{suffix}"
    bomb.write_bytes(COMPRESS[suffix](bytes(24 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"bomb.*: has a line of more than 2 MiB"):
            list(documents.read_lines(bomb))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def write(folder, *texts, **options):
    items = [Document(str(number), "", text) for number, text in enumerate(texts)]
    options = {"min_documents": 2, "min_characters": 1, "near_duplicates": False} | options
    documents.write(CorpusOptions(output=folder, **options), items, Report("test"), drop_lists=True)
    return [document.text for document in documents.read(folder)]


PROSE = "Words of an article that stand in a line, and there are enough of them for running text."


def test_what_cannot_be_written_is_left_out(tmp_path):
    texts = write(tmp_path / "documents", f"{PROSE}\x00\x1b\ud800\tyes\x7f\x85 \r\n", PROSE)
    assert texts == [f"{PROSE}\tyes", PROSE]


def test_a_control_character_that_parts_words_parts_them_still(tmp_path):
    written = f"{PROSE}\x0cA page.\rA line.\r\nAnother\x1fone.\x1b"
    text, _ = write(tmp_path / "documents", written, PROSE)
    assert text == f"{PROSE} A page. A line.\nAnother one."


def test_characters_are_counted_beyond_the_basic_plane(tmp_path):
    texts = write(tmp_path / "documents", f"{PROSE} 𐀀𐀀", f"{PROSE} 漢é")
    counted = read_json(tmp_path / "documents" / "characters.json")
    assert counted == dict(Counter("".join(texts)))


def test_lists_are_dropped(tmp_path):
    entries = "\n".join(f"* entry {n}" for n in range(20))
    names = "\n".join(f"Name {n}, born in {n}" for n in range(20))
    table = "\n".join(f"{n} | {n} | 12.5 | 13.7 | {n} | 0.55 | {n} | {n} | 1.55" for n in range(20))
    japanese = "これは日本語の文章であり、リストではありません。"
    kept = [PROSE, f"{PROSE}\n* one\n{PROSE} And more.\n* two", japanese]
    assert write(tmp_path / "documents", entries, names, table, *kept) == kept
    assert read_json(tmp_path / "documents" / "report.json")["dropped"]["list"] == 3


def test_too_few_documents_are_an_error(tmp_path):
    with pytest.raises(InputError, match=r"too small a corpus: 1 of 2 kept; dropped: 1 exact"):
        write(tmp_path / "documents", PROSE, PROSE)
    assert not list(tmp_path.iterdir())


@given(st.lists(st.integers(min_value=0, max_value=2**64 - 1) | st.integers(0, 50), max_size=3000))
@settings(max_examples=20, deadline=None)
def test_the_set_of_keys_is_a_set(keys):
    known, truth = documents.KeySet(), set()
    for key in (key or 1 for key in keys):
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
                set(documents.band_keys(" ".join(words)))
                & set(documents.band_keys(" ".join(other)))
            )
    assert found[1] == 60  # similarity 0.99
    assert found[60] <= 5  # similarity 0.54


def test_the_keys_of_a_text_never_change():
    """Those of datasketch 2: other keys would drop other documents."""
    least = documents.min_hashes(np.arange(3, dtype=np.uint32))
    assert least[:4].tolist() == [214548472, 2868690350, 1311794348, 194758406]
    keys = {
        "a b c d e f g": 247957032563454794,
        "": 3820137085124538496,
        "word " * 3000: 14578934088589525050,
    }
    assert {text: documents.band_keys(text)[0] for text in keys} == keys
