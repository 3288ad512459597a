"""Readers of what others wrote, with damaged and hostile input for each: for tests and benchmarks.

A reader survives where it returns, or raises InputError or Failure. `tests/unit/test_fuzz.py` tries
a few seconds of each; `python tests/benchmarks/fuzz.py --seconds 60` as long as it is told.
"""

import json
import re
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from eliquare.config import load
from eliquare.corpus.sources import of_lines
from eliquare.corpus.tokenization import CorpusTokenizer
from eliquare.evaluation import readers
from eliquare.evaluation.hub import card_data
from eliquare.extension.embeddings import read_vectors
from eliquare.io import Failure, InputError, read_json
from eliquare.models import loading
from eliquare.vocabulary.select import read_vocabulary
from eliquare.vocabulary.tokenizer import read_description
from families import make_teacher

# What JSON and YAML can hold, and what breaks those who expect something else.
SCALARS: SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 2, 10**30, 1.5, 1e300, "", "x", "[MASK]", "0", "\ud800", "\n", "../x"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "type", "id", ""]), inner, max_size=3)
    ),
    max_leaves=5,
)
PIECES = [b"", b"\x00", b"\xff", b"\n", b"\r", b"\t", b'"', b"'", b"-", b"O", b"{", b"<html>"]
PIECES += [b"\xef\xbb\xbf", b"\\ud800", b"\xe2\x80\xa8", b"1-2\t", b"1.1\t", b"\n\n", b"9" * 5000]
NESTED = b"[" * 1500
DIGITS = b'{"text": ' + b"9" * 5000 + b', "label": "a"}'


def damaged(text: str | bytes) -> SearchStrategy[bytes]:
    """Return a file with a piece cut out, doubled or replaced, in one or two places."""
    content = text.encode() if isinstance(text, str) else text
    pieces = st.sampled_from(PIECES)
    place = st.integers(0, len(content))

    def change(changes: list[tuple[int, int, bytes]]) -> bytes:
        changed = content
        for begin, length, piece in changes:
            changed = changed[:begin] + piece + changed[begin + length :]
        return changed

    one = st.tuples(place, st.sampled_from([0, 1, 5, 10**6]), pieces)
    odd = st.sampled_from([b"", NESTED, DIGITS, content * 3, content.decode().encode("utf-16")])
    return st.lists(one, min_size=1, max_size=2).map(change) | odd


def places(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to each value in plain values, of long lists the first ones."""
    found = [before]
    items = value.items() if isinstance(value, dict) else enumerate(value[:3])
    if isinstance(value, dict | list):
        for key, inner in list(items)[:12]:
            found += places(inner, (*before, key)) if isinstance(inner, dict | list) else []
            found.append((*before, key))
    return found


def changed(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    """Return plain values with another one at a place."""
    if not place:
        return value
    copy = json.loads(json.dumps(content))
    holder = copy
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return copy


def mutated(content: Any) -> SearchStrategy[Any]:
    """Return plain values with another value at one place."""
    return st.builds(changed, st.just(content), st.sampled_from(places(content)), VALUES)


@cache
def model(folder: Path) -> Path:
    """Return a small teacher, made once in a folder."""
    return make_teacher("bert", folder / "teacher", layers=1)


def of_model(file: str, read: Callable[[Path], object], folder: Path) -> Callable[[bytes], object]:
    """Return a reader of a model's folder in which one file has other content."""
    copy = folder / f"{file}-{read.__name__}"
    shutil.copytree(model(folder), copy)

    def with_content(content: bytes) -> object:
        (copy / file).write_bytes(content)
        return read(copy)

    return with_content


def of_file(name: str, read: Callable[[Path], object], folder: Path) -> Callable[[bytes], object]:
    """Return a reader of a file's content."""

    def with_content(content: bytes) -> object:
        path = folder / name
        path.write_bytes(content)
        return read(path)

    return with_content


def as_json(content: Any) -> bytes:
    """Return plain values as JSON."""
    return json.dumps(content).encode()


CONLLU = "# text = ab c\n1-2\tab\t_\t_\t_\t_\t_\t_\t_\t_\n" + "".join(
    f"{n}\t{word}\t_\t{tag}\t_\t_\t0\t_\t_\t_\n"
    for n, word, tag in ((1, "a", "NOUN"), (2, "b", "VERB"), (3, "c", "PUNCT"))
)
IOB = "-DOCSTART- O\n\nAna B-PER\nNovak I-PER\nje O\n\nsl:Maj B-LOC\nsl:je O\n"
CSV = 'text,label\n"A ""b"", c",x\nd,y\n"e\nf",x\n'
JSON_LINES = '{"text": "a b", "label": "x"}\n{"text": "c", "label": 1}\n'
KINDS = {
    "conllu": ("upos", CONLLU),
    "iob": ("ner", IOB),
    "csv": ("classification", CSV),
    "tsv": ("classification", CSV.replace(",", "\t")),
    "jsonl": ("classification", JSON_LINES),
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
TOKENIZER_READERS = (loading.load_tokenizer, CorpusTokenizer.load, read_description)
CARD = "---\nlicense: mit\nconfigs:\n- config_name: a\n  data_files: x.csv\n---\n# A\n"
CONFIGURATION = """
name: small
languages:
  sl: {corpus: {source: text, files: [sl.txt]}}
  sw: {corpus: {source: dump, date: latest}}
mixtures: {both: {sl: 1, sw: 2}}
teachers:
  big: {source: pretrain, corpus: both, training: {max_steps: 10}}
  near: {source: adapt, teacher: big, training: {num_train_epochs: 1}}
vocabularies: {few: {min_sentence_fraction: 0.0005, scripts: [Latin]}}
extensions: {more: {num_tokens: 50}}
students:
  full: {teacher: big, training: {max_steps: 2}, objective: {kl: {weight: {from: 1, to: 0}}}}
  pre: {extends: full, vocabulary: few, seeds: [1, 2]}
  post: {reduced_from: full, vocabulary: few}
systems: {other: {model: a/b}}
tasks:
  names: {language: sl, kind: ner, train: sl.txt}
  tree: {language: sl, kind: upos, ud: {treebank: UD_Slovenian-SSJ, release: "2.17"}}
  pairs: {language: sw, kind: pair, hub: {dataset: a/b, columns: {text: a, text_pair: b}}}
experiment: {systems: [big, full, pre, post], seeds: [1], tasks: [names]}
"""


def fuzzed(folder: Path) -> dict[str, tuple[Callable[[Any], object], SearchStrategy[Any]]]:
    """Return the readers by name, each with what it is given; files are written to a folder."""
    written = yaml.safe_load(CONFIGURATION)
    teacher = model(folder)
    weights = (teacher / "model.safetensors").read_bytes()
    found: dict[str, tuple[Callable[[Any], object], SearchStrategy[Any]]] = {
        "configuration": (load.complete, mutated(written).filter(lambda c: isinstance(c, dict))),
        "YAML": (of_file("c.yaml", load.load, folder), damaged(CONFIGURATION)),
        "JSON": (of_file("x.json", read_json, folder), damaged('{"a": [1, "b"]}')),
        "card": (of_file("README.md", card_data, folder), damaged(CARD)),
        "text": (of_file("x.txt", lambda f: list(of_lines([f])), folder), damaged("Žaba.\r\nB\n")),
        "vectors": (of_file("v.vec", read_vectors, folder), damaged("2 2\na 1 0.5\nb 0 1\n")),
    }
    for content in ("id,token,reason\n1,a,listed\n2,b,x\n", "a\nb\n"):
        read = of_file("tokens", lambda f: read_vocabulary(f, ["[PAD]", "a", "b"]), folder)
        name = "vocabulary" if "," in content else "list of tokens"
        found[name] = (read, damaged(content))
    for suffix, (kind, content) in KINDS.items():
        name = f"x.{suffix}"
        task = of_file(name, partial(readers.read, kind), folder)
        texts = of_file(name, lambda f: list(readers.read_texts(f)), folder)
        found |= {name: (task, damaged(content)), f"{name} as text": (texts, damaged(content))}
    for file in ("config.json", *TOKENIZER_FILES):
        content = json.loads((teacher / file).read_text())
        given = mutated(content).map(as_json) | damaged(as_json(content)[:2000])
        for read in (loading.load_masked_lm,) if file == "config.json" else TOKENIZER_READERS:
            found[f"{file} of {read.__qualname__}"] = (of_model(file, read, folder), given)
    read = of_model("model.safetensors", loading.load_masked_lm, folder)
    found["weights"] = (read, st.binary(max_size=50) | headers(weights))
    return found


def headers(weights: bytes) -> SearchStrategy[bytes]:
    """Return safetensors files with another value somewhere in their header."""
    size = int.from_bytes(weights[:8], "little")

    def with_header(header: Any) -> bytes:
        written = as_json(header)
        return len(written).to_bytes(8, "little") + written + weights[8 + size :]

    return mutated(json.loads(weights[8 : 8 + size])).map(with_header)


NAMES = [
    "configuration",
    "YAML",
    "JSON",
    "card",
    "text",
    "vectors",
    "vocabulary",
    "list of tokens",
    *(f"x.{kind}{how}" for kind in KINDS for how in ("", " as text")),
    "config.json of load_masked_lm",
    *(f"{file} of {read.__qualname__}" for file in TOKENIZER_FILES for read in TOKENIZER_READERS),
    "weights",
]


def survives(read: Callable[[Any], object], given: Any) -> None:
    """Read something; what it may raise is an error in plain words."""
    try:
        read(given)
    except (InputError, Failure) as error:
        # Nor words of pydantic's own, for the branches of a union.
        if not str(error).strip() or re.search(r"function-|constrained-", str(error)):
            raise AssertionError(f"not in plain words: {error}") from error
