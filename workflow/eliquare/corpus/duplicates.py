"""Exact and near-exact duplicates among documents, found as the documents stream by.

A document is told apart by 64-bit keys: one of its whole text, and one for each of 8 bands of 16
values of its MinHash over shingles of 5 words (Broder 1997; banding as in Leskovec, Rajaraman &
Ullman, "Mining of Massive Datasets", chapter 3). Two documents that share a band are near-exact
duplicates: of pairs with Jaccard similarity 0.95, 99% are found; of 0.9, 81%; of 0.8, 20%; of
0.7, 3%.

Memory: only the keys of kept documents are held, 9 tables of 8 bytes a slot, filled to at most two
thirds: 2.5 million documents take 9 x 4.2 million slots = 0.3 GB; 10 million take 1.2 GB.
"""

from array import array

import numpy
import regex
import xxhash
from datasketch import MinHash

SHINGLE_WORDS = 5
BANDS = 8
ROWS = 16
BATCH = 4096  # shingles hashed at a time: 128 values of 8 bytes each

# Scripts that write no spaces between words count each character as a word.
WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\p{L}\p{M}\p{N}]+"
)


def text_key(text: str) -> int:
    """A 64-bit key of the text, white space aside."""
    return xxhash.xxh3_64_intdigest(" ".join(text.split()).encode())


def band_keys(text: str) -> tuple[int, ...]:
    """The 64-bit keys of the bands of the text's MinHash."""
    words = WORD.findall(text.lower())
    last = max(len(words) - SHINGLE_WORDS, 0)
    shingles = list({" ".join(words[i : i + SHINGLE_WORDS]) for i in range(last + 1)})
    sketch = MinHash(num_perm=BANDS * ROWS, seed=1, hashfunc=xxhash.xxh32_intdigest)
    for begin in range(0, len(shingles), BATCH):
        sketch.update_batch([shingle.encode() for shingle in shingles[begin : begin + BATCH]])
    bands = numpy.ascontiguousarray(sketch.hashvalues, dtype="<u8").reshape(BANDS, ROWS)
    return tuple(xxhash.xxh3_64_intdigest(band.tobytes()) for band in bands)


class KeySet:
    """A set of 64-bit keys in 8 bytes a slot (a set of Python integers takes about ten times that).

    Open addressing with linear probing; the keys are hashes already. A slot of 0 is empty.
    """

    def __init__(self) -> None:
        self.size = 0
        self.slots = array("Q", bytes(8 << 10))

    def _slot(self, key: int) -> int:
        mask = len(self.slots) - 1
        slot = key & mask
        while self.slots[slot] not in (0, key):
            slot = (slot + 1) & mask
        return slot

    def __contains__(self, key: int) -> bool:
        return self.slots[self._slot(key or 1)] != 0

    def add(self, key: int) -> None:
        key = key or 1
        slot = self._slot(key)
        if self.slots[slot]:
            return
        self.slots[slot] = key
        self.size += 1
        if self.size * 3 > len(self.slots) * 2:
            old = self.slots
            self.slots = array("Q", bytes(16 * len(old)))
            for key in old:
                if key:
                    self.slots[self._slot(key)] = key


class Duplicates:
    """Remembers the documents that were kept; the first of several duplicates stays."""

    def __init__(self) -> None:
        self.texts = KeySet()
        self.bands = [KeySet() for _ in range(BANDS)]

    def reason(self, text: int, bands: tuple[int, ...]) -> str | None:
        """Why the document with these keys is dropped, or None: then it is remembered.

        Args:
            text: the document's ``text_key``.
            bands: its ``band_keys``; empty to look for exact duplicates alone.
        """
        if text in self.texts:
            return "exact_duplicate"
        seen = zip(self.bands, bands, strict=False)
        if any(key in known for known, key in seen):
            return "near_duplicate"
        self.texts.add(text)
        for known, key in zip(self.bands, bands, strict=False):
            known.add(key)
        return None
