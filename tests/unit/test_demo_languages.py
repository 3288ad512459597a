"""The demo's world: real formats, exact annotation, the same bytes for a seed."""

import bz2
import csv
import hashlib
import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from xml.etree import ElementTree

import conllu
import pytest
from seqeval.scheme import IOB2, Entities

from demo_languages import lexicon, orthography, world
from demo_languages.draw import Draw
from demo_languages.grammar import contrary, synonymous
from demo_languages.speaker import Speaker
from eliquare.io import checksum

ARTICLES = 40
NAMESPACE = "{http://www.mediawiki.org/xml/export-0.11/}"
SCRIPTS = {"qaa": "LATIN", "qab": "CYRILLIC", "qac": "DEVANAGARI"}
UPOS = {"NOUN", "VERB", "ADJ", "ADV", "ADP", "DET", "PRON", "CCONJ", "SCONJ", "PART", "NUM"}
UPOS |= {"PROPN", "AUX", "PUNCT"}


def write(folder: Path, seed: int = 1) -> Path:
    world.run(
        world.parser().parse_args(
            ["--seed", str(seed), "--articles", str(ARTICLES), "--output", str(folder)]
        )
    )
    return folder


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("world") / "demo")


@pytest.fixture(params=world.CODES)
def code(request) -> str:
    return request.param


def dump_path(demo: Path, code: str) -> Path:
    return demo / f"mirror/{code}wiki/20260101/{code}wiki-20260101-pages-articles.xml.bz2"


def sentences(demo: Path, code: str, split: str) -> list:
    text = (demo / f"tasks/{code}/upos/{split}.conllu").read_text(encoding="utf-8")
    return conllu.parse(text)


def rows(demo: Path, code: str, task: str, split: str) -> list[dict[str, str]]:
    with (demo / f"tasks/{code}/{task}/{split}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def extracted(demo: Path, code: str) -> list[dict[str, str]]:
    command = [sys.executable, "-m", "wikiextractor.WikiExtractor", "--json", "--no-templates"]
    command += ["--processes", "1", "-q", "-o", "-", str(dump_path(demo, code))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_files_lists_what_is_written(demo):
    written = {path.relative_to(demo).as_posix() for path in demo.rglob("*") if path.is_file()}
    # Beside what a stage leaves in its output.
    assert written - {".eliquare.json"} == set(world.files())


def test_listing_files_imports_nothing_heavy():
    program = (
        "import sys, demo_languages.world as w; w.files(); "
        "sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_another_seed_makes_other_bytes(demo, tmp_path):
    # That the same seed makes the same bytes is in test_versions.py.
    assert checksum(write(tmp_path / "other", seed=2)) != checksum(demo)


def test_checksum_list_matches_the_dump(demo, code):
    dump = dump_path(demo, code)
    expected = f"{hashlib.sha1(dump.read_bytes()).hexdigest()}  {dump.name}\n"
    assert (dump.parent / f"{code}wiki-20260101-sha1sums.txt").read_text() == expected
    latest = dump.parent.parent / "latest" / f"{code}wiki-latest-sha1sums.txt"
    assert latest.read_text() == expected


def test_dump_follows_the_export_schema(demo, code):
    with bz2.open(dump_path(demo, code)) as file:
        root = ElementTree.parse(file).getroot()
    assert root.get("version") == "0.11"
    assert root.find(f"{NAMESPACE}siteinfo/{NAMESPACE}dbname").text == f"{code}wiki"
    pages = root.findall(f"{NAMESPACE}page")
    names = {page.find(f"{NAMESPACE}ns").text for page in pages}
    assert {"0", "6", "10", "14"} <= names
    assert any(page.find(f"{NAMESPACE}redirect") is not None for page in pages)
    titles = [page.findtext(f"{NAMESPACE}title") for page in pages]
    assert len(titles) == len(set(titles))
    texts = []
    for page in pages:
        text = page.find(f"{NAMESPACE}revision/{NAMESPACE}text")
        data = text.text.encode()
        assert int(text.get("bytes")) == len(data)
        digits = page.findtext(f"{NAMESPACE}revision/{NAMESPACE}sha1")
        assert int(digits, 36) == int(hashlib.sha1(data).hexdigest(), 16)
        assert len(digits) == 31
        texts.append(text.text)
    everything = "\n".join(texts)
    for markup in ("{{Infobox", "{|", "<ref>", "<ref name=", "<gallery>", "<math>", "[[File:"):
        assert markup in everything
    assert "&nbsp;" in everything
    articles = [text for text in texts if len(text) > 500]
    assert len(articles) > len(set(articles)), "no exact duplicates"


def test_wikiextractor_leaves_clean_text(demo, code):
    documents = extracted(demo, code)
    assert sum(len(document["text"]) > 200 for document in documents) >= ARTICLES
    text = "\n".join(document["text"] for document in documents)
    for leftover in ("{{", "}}", "[[", "]]", "<ref", "{|", "|}", "'''", "&amp;", "thumb"):
        assert leftover not in text
    assert unicodedata.is_normalized("NFC", text)
    letters = [character for character in text if character.isalpha()]
    own = sum(unicodedata.name(letter).startswith(SCRIPTS[code]) for letter in letters)
    assert own / len(letters) > 0.99


def test_treebank_is_exact(demo, code):
    ranges = nodes = 0
    for split, size in world.SIZES["upos"].items():
        parsed = sentences(demo, code, split)
        assert len(parsed) == size
        for sentence in parsed:
            words = [token for token in sentence if isinstance(token["id"], int)]
            assert [word["id"] for word in words] == list(range(1, len(words) + 1))
            assert {word["upos"] for word in words} <= UPOS
            assert written(sentence) == sentence.metadata["text"]
            spans = [token["id"] for token in sentence if isinstance(token["id"], tuple)]
            ranges += sum(span[1] == "-" for span in spans)
            nodes += sum(span[1] == "." for span in spans)
    assert ranges > 0
    assert nodes > 0


def written(sentence) -> str:
    """The text that the surface tokens of a CoNLL-U sentence spell."""
    parts, covered = [], 0
    for token in sentence:
        identifier = token["id"]
        if isinstance(identifier, tuple) and identifier[1] == "-":
            covered = identifier[2]
        elif isinstance(identifier, tuple) or identifier <= covered:
            continue
        space = "" if (token["misc"] or {}).get("SpaceAfter") == "No" else " "
        parts.append(token["form"] + space)
    return "".join(parts).rstrip()


def test_every_class_occurs_and_forms_are_ambiguous(demo, code):
    classes: dict[str, set[str]] = {}
    for sentence in (*sentences(demo, code, "train"), *sentences(demo, code, "test")):
        for token in sentence:
            if isinstance(token["id"], int):
                classes.setdefault(token["form"].lower(), set()).add(token["upos"])
    assert set().union(*classes.values()) == UPOS
    assert any({"NOUN", "VERB"} <= tags for tags in classes.values())


def test_endings_agree(code):
    """A verb of a plain sentence has the number of its subject."""
    words = lexicon.build(orthography.LANGUAGES[code], 1)
    speaker = Speaker(lexicon.View(words), Draw(5, code, "test"))
    for _ in range(200):
        meaning = speaker.proposition(speaker.context())
        if meaning.verb is None or meaning.subject.noun is None:
            continue
        feats = [token.feats for token in speaker.plain(meaning).words if token.upos == "VERB"]
        subject = meaning.subject
        assert feats == [f"Number={subject.number}"]


def test_training_splits_hold_words_out_that_the_dump_has(demo, code):
    words = lexicon.build(orthography.LANGUAGES[code], 1)
    held = [
        lexeme
        for lexemes in (*words.open.values(), *words.evaluative.values())
        for lexeme in lexemes
        if lexeme.held
    ]
    every = [lexeme for lexemes in words.open.values() for lexeme in lexemes]
    assert 0.4 < len(held) / len(every) < 0.75
    held_lemmas = {(lexeme.lemma, lexeme.upos) for lexeme in held}
    seen = {
        split: {
            (token["lemma"], token["upos"])
            for sentence in sentences(demo, code, split)
            for token in sentence
        }
        for split in ("train", "test")
    }
    assert not seen["train"] & held_lemmas
    assert seen["test"] & held_lemmas


def test_entities_are_whole_iob2(demo, code):
    for split, size in world.SIZES["ner"].items():
        text = (demo / f"tasks/{code}/ner/{split}.txt").read_text(encoding="utf-8")
        blocks = text.strip("\n").split("\n\n")
        assert len(blocks) == size
        tags = [[line.split(" ")[1] for line in block.split("\n")] for block in blocks]
        kinds = {tag[2:] for sentence in tags for tag in sentence if tag != "O"}
        assert kinds == {"PER", "LOC", "ORG"}
        found = sum(len(entities) for entities in Entities(tags, IOB2).entities)
        assert found == sum(tag.startswith("B-") for sentence in tags for tag in sentence)
        for sentence in tags:
            for before, tag in zip(["O", *sentence], sentence, strict=False):
                assert not tag.startswith("I-") or before[2:] == tag[2:]


@pytest.mark.parametrize("task", ["topic", "sentiment", "inference"])
def test_tables_are_balanced(demo, code, task):
    columns = ["premise", "hypothesis"] if task == "inference" else ["text"]
    for split, size in world.SIZES[task].items():
        table = rows(demo, code, task, split)
        assert len(table) == size
        assert list(table[0]) == [*columns, "label"]
        counts: dict[str, int] = {}
        for row in table:
            assert all(row.values())
            counts[row["label"]] = counts.get(row["label"], 0) + 1
        assert max(counts.values()) - min(counts.values()) <= 1


def test_meanings_are_what_their_labels_say(code):
    """Twice the synonym, or twice the contrary, is the first meaning; once is another one."""
    words = lexicon.build(orthography.LANGUAGES[code], 1)
    speaker = Speaker(lexicon.View(words), Draw(7, code, "test"))
    for _ in range(200):
        meaning = speaker.proposition(speaker.context())
        assert synonymous(synonymous(meaning)) == meaning
        for negate in (True, False):
            other = contrary(meaning, negate)
            assert other != meaning
            assert contrary(other, negate) == meaning


def test_word_order_of_the_verb_final_language():
    words = lexicon.build(orthography.LANGUAGES["qac"], 1)
    speaker = Speaker(lexicon.View(words), Draw(9, "qac", "test"))
    for _ in range(200):
        meaning = speaker.proposition(speaker.context())
        tail = [token.upos for token in speaker.plain(meaning).words[-4:]]
        assert {"VERB", "ADJ", "AUX", "PART"} & set(tail)
        assert tail[-1] == "PUNCT"


def test_bad_options_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        world.parser().parse_args(["--articles", "0", "--output", str(tmp_path / "x")])
    assert ended.value.code == 2
    assert "--articles" in capsys.readouterr().err
