"""Tasks are read as their formats say, real files of every kind are, and mistakes are named."""

import bz2
import gzip
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import zstandard
from pydantic import ValidationError

from eliquare.config.tasks import TaskData
from eliquare.corpus import documents
from eliquare.evaluation import data, readers
from eliquare.io import InputError
from real_data import DATA, needs_data

TASKS = DATA / "tasks"

WORD = "{}\t{}\t_\t{}\t_\t_\t_\t_\t_\t_\n"
TREEBANK = (
    "# text = vámonos al mar\n"
    + WORD.format("1-2", "vámonos", "_")
    + WORD.format("1", "vamos", "VERB")
    + WORD.format("2", "nos", "PRON")
    + WORD.format("2.1", "nada", "_")
    + WORD.format("3-4", "al", "_")
    + WORD.format("3", "a", "ADP")
    + WORD.format("4", "el", "DET")
    + WORD.format("5", "mar", "NOUN")
    + "\n"
    + WORD.format("1", "10 000", "NUM")
)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_conllu_gives_the_syntactic_words(tmp_path):
    first, second = readers.read("upos", write(tmp_path, "a.conllu", TREEBANK))
    assert first.texts == ("vamos", "nos", "a", "el", "mar")
    assert first.labels == ("VERB", "PRON", "ADP", "DET", "NOUN")
    assert first.lines == (3, 4, 7, 8, 9)
    assert second.texts == ("10 000",)


def test_compression_windows_line_ends_and_byte_order_mark_change_nothing(tmp_path):
    plain = readers.read("upos", write(tmp_path, "a.conllu", TREEBANK))
    other = b"\xef\xbb\xbf" + TREEBANK.replace("\n", "\r\n").encode()
    compressors = {"gz": gzip.compress, "bz2": bz2.compress, "zst": zstandard.compress}
    for suffix, compress in compressors.items():
        packed = readers.read("upos", write(tmp_path, f"a.conllu.{suffix}", compress(other)))
        assert [s.texts for s in packed] == [s.texts for s in plain]
        assert [s.lines for s in packed] == [s.lines for s in plain]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("I-PER I-PER O I-LOC", "B-PER I-PER O B-LOC"),
        ("I-PER B-PER I-PER I-LOC", "B-PER B-PER I-PER B-LOC"),
        ("B-PER I-PER O B-LOC B-LOC", "B-PER I-PER O B-LOC B-LOC"),
        ("S-PER S-PER B-ORG I-ORG E-ORG E-ORG O", "B-PER B-PER B-ORG I-ORG I-ORG B-ORG O"),
        ("U-PER B-ORG L-ORG I-ORG", "B-PER B-ORG I-ORG B-ORG"),
    ],
)
def test_every_scheme_becomes_iob2(tags, expected):
    assert readers.to_iob2(tags.split()) == expected.split()
    assert readers.to_iob2(expected.split()) == expected.split()


@pytest.mark.parametrize(
    "content",
    [
        "Ana B-PER\nide O\n\n1 O\nNil S-LOC\n",
        "Ana\tB-PER\nide\tO\n\n1\tO\nNil\tB-LOC\n",
        "0\tAna\tB-PER\n1\tide\tO\n\n0\t1\tO\n1\tNil\tI-LOC\n",
        "1 Ana I-PER\n2 ide O\n\n1 1 O\n2 Nil E-LOC",
        "-DOCSTART- O\n\nAna\tNNP\tB-PER\nide\tVB\tO\n\n1\tCD\tO\nNil\tNNP\tB-LOC\n",
        "-DOCSTART- O\nAna B-PER\nide O\n-DOCSTART- O\n1 O\nNil B-LOC\n",
        "-DOCSTART- -X- -X- O\n\nAna NNP NP B-PER\nide VB VP O\n\n1 CD NP O\nNil NNP NP B-LOC\n",
        "# id 1\tdomain=train\nAna _ _ B-PER\nide _ _ O\n\n# id 2\n1 _ _ O\nNil _ _ B-LOC\n",
        "# global.columns = x\n\nAna B-PER\nide O\n\n1 O\nNil B-LOC\n\n# the end\n",
    ],
)
def test_columns_of_entities(tmp_path, content):
    first, second = readers.read("ner", write(tmp_path, "a.txt", content))
    assert (first.texts, first.labels) == (("Ana", "ide"), ("B-PER", "O"))
    assert (second.texts, second.labels) == (("1", "Nil"), ("O", "B-LOC"))


def test_a_number_sign_with_a_tag_is_a_word(tmp_path):
    (sentence,) = readers.read("ner", write(tmp_path, "a.txt", "# O\nAna B-PER\n# O\n"))
    assert sentence.texts == ("#", "Ana", "#")


def test_the_language_before_each_word_of_pan_x_is_removed(tmp_path, caplog):
    caplog.set_level("INFO")
    for code in ("sl", "zh-min-nan"):
        content = f"{code}:Ljubljana\tB-LOC\n{code}::\tO\n\n{code}:http://a\tO\n"
        path = write(tmp_path, f"{code}.txt", content)
        assert [each.texts for each in readers.read("ner", path)] == [
            ("Ljubljana", ":"),
            ("http://a",),
        ]
        assert f"{path}, line 1: every word begins with '{code}:'" in caplog.text
        assert list(readers.read_texts(path)) == ["Ljubljana :", "http://a"]


@pytest.mark.parametrize("words", [["sl:Ana", "sl:Nil", "tudi"], ["sl:Ana", "hr:Nil"], ["re:Ana"]])
def test_words_with_a_colon_of_their_own_stay(tmp_path, words, caplog):
    caplog.set_level("INFO")
    content = "".join(f"{word}\tO\n" for word in words)
    (sentence,) = readers.read("ner", write(tmp_path, "a.txt", content))
    assert sentence.texts == tuple(words)
    assert not caplog.records


def test_a_word_may_hold_any_space_but_the_separator(tmp_path):
    content = "10\u00a0000\tO\nA\u2028B\tB-PER\n"
    (sentence,) = readers.read("ner", write(tmp_path, "a.tsv", content))
    assert sentence.texts == ("10\u00a0000", "A\u2028B")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'label,text\r\nyes,"a ""b"",\r\nc"\r\nno,d\r\n'),
        ("a.tsv", 'text\tlabel\n"a ""b"",\r\nc"\tyes\nd\tno\n'),
        (
            "a.jsonl",
            '{"text": "a \\"b\\",\\r\\nc", "label": "yes"}\n\n{"label": "no", "text": "d"}\n',
        ),
    ],
)
def test_tables_keep_quoted_text(tmp_path, name, content):
    rows = readers.read("classification", write(tmp_path, name, content))
    assert [row.texts + row.labels for row in rows] == [('a "b",\r\nc', "yes"), ("d", "no")]


def test_pairs_have_two_texts(tmp_path):
    path = write(tmp_path, "a.tsv", "premise\thypothesis\tgold\na\tb\t1\n")
    (row,) = readers.read("pair", path, ("gold", "premise", "hypothesis"))
    assert (row.texts, row.labels) == (("a", "b"), ("1",))


@pytest.mark.parametrize(
    ("kind", "name", "content", "line", "says"),
    [
        ("upos", "a.conllu", TREEBANK.replace("a\t_\tADP\t_", "a\t_\tADP"), 7, "9 columns"),
        ("upos", "a.conllu", TREEBANK.replace("DET", "ART"), 8, "'ART'"),
        ("upos", "a.conllu", TREEBANK.replace("\n\n", "\n"), 10, "expected 6"),
        ("ner", "a.txt", "Ana B-PER\nide 0\n", 2, "'0'"),
        ("ner", "a.txt", "Ana B-PER\nide B_PER\n", 2, "'B_PER'"),
        ("ner", "a.txt", "Ana B-PER\nide O\nna\n", 3, "1 columns"),
        ("ner", "a.tsv", "0\tAna\tB-PER\n1\tide\tO\nna\tto\tO\n", 3, "'na'"),
        ("classification", "a.csv", "text,gold\na,1\n", 1, "no column 'label'"),
        ("classification", "a.csv", 'text,label\n"a\nb",1\nc, \n', 4, "is empty"),
        ("classification", "a.csv", 'text,label\na,1\n"b\r",\n', 3, "is empty"),
        ("classification", "a.csv", "text,label\na,1\nb,c,2\n", 3, "3 columns"),
        ("classification", "a.csv", 'text,label\na,1\n"b,2\nc,3\n', 3, "RFC 4180"),
        ("classification", "a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', 2, "'label'"),
        ("classification", "a.jsonl", '{"text": "a", "label": null}\n', 1, "is empty"),
        ("classification", "a.jsonl", '{"text": "a"\n', 1, "not JSON"),
        ("classification", "a.jsonl", '{"text": "a", "label": NaN}\n', 1, "is empty"),
        ("classification", "a.jsonl", '{"text": "a", "label": 1, "label": 2}\n', 1, "once"),
        ("classification", "a.jsonl", '{"text": ["a"], "label": 1}\n', 1, "'text' is a list"),
        ("classification", "a.csv", "text,label,text\na,1,b\n", 1, "'text' stands twice"),
        ("upos", "a.conllu", TREEBANK.replace("\tmar\t", "\t\t"), 9, "no word"),
        ("ner", "a.txt", "Ana\tB-PER\n\tO\n", 2, "no token"),
        (
            "classification",
            "a.csv",
            "text,label\na,1\n ,2\n",
            3,
            "the text (column 'text') is empty",
        ),
    ],
)
def test_mistakes_are_named_with_file_and_line(tmp_path, kind, name, content, line, says):
    path = write(tmp_path, name, content)
    with pytest.raises(InputError) as error:
        readers.read(kind, path)
    message = str(error.value)
    assert message.startswith(f"{path}, line {line}: ")
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("kind", "name", "content", "lines"),
    [
        ("upos", "a.conllu", TREEBANK.replace("ADP", "A").replace("DET", "B"), [7, 8]),
        ("upos", "a.conllu", TREEBANK.replace("4\tel", "el").replace("\tmar\t_", "\tmar"), [8, 9]),
        ("ner", "a.txt", "Ana B-PER\nide 0\n\nNil LOC\n", [2, 4]),
        ("ner", "a.txt", "Ana B-PER\nide\n\nNil\n", [2, 4]),
        ("classification", "a.csv", "text,label\na,\nb,1\nc,\n", [2, 4]),
        ("classification", "a.csv", "text,label\na\nb,1\nc\n", [2, 4]),
        ("classification", "a.jsonl", '1\n{"text": "a", "label": "b"}\n{"text"\n', [1, 3]),
    ],
)
def test_mistakes_are_reported_together(tmp_path, kind, name, content, lines):
    path = write(tmp_path, name, content)
    with pytest.raises(InputError) as error:
        readers.read(kind, path)
    found = str(error.value).splitlines()
    assert [int(re.search(r"line (\d+)", line)[1]) for line in found] == lines


def test_no_more_than_twenty_mistakes_are_listed(tmp_path):
    with pytest.raises(InputError) as error:
        readers.read("ner", write(tmp_path, "a.txt", "Ana PER\n" * 50))
    assert len(str(error.value).splitlines()) == 21
    assert "30 more" in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.conllu", b"", "no example"),
        ("a.conllu", TREEBANK.encode("utf-16"), "line 1: not UTF-8"),
        ("a.conllu.gz", gzip.compress(TREEBANK.encode())[:-20], "ends in the middle of the comp"),
        ("a.conllu.gz", TREEBANK.encode(), "a.conllu.gz: cannot be read .* fetch it again"),
    ],
    # Not the bytes, which hold the time: each worker would name the test in its own way.
    ids=["empty", "UTF-16", "cut", "not gzip"],
)
def test_files_that_are_none(tmp_path, name, content, says):
    with pytest.raises(InputError, match=says):
        readers.read("upos", write(tmp_path, name, content))


def test_a_missing_column_names_those_there_are(tmp_path):
    with pytest.raises(InputError, match="'tweet', 'gold'"):
        readers.read("classification", write(tmp_path, "a.csv", "tweet,gold\na,1\n"))


def table_of(folder: Path, given: list[str], name: str = "a.csv"):
    content = "text,label\n" + "".join(f"t{n},{label}\n" for n, label in enumerate(given))
    return readers.read("classification", write(folder, name, content))


def test_minimal_pairs_are_a_right_and_a_wrong_sentence(tmp_path):
    path = write(tmp_path, "a.tsv", "id\twrong_sen\tsen\n1\the go\t he goes \n")
    (example,) = readers.read("minimal_pairs", path, ["sen", "wrong_sen"])
    assert (example.texts, example.labels, example.lines) == (("he goes", "he go"), (), (2,))


def test_mistakes_in_minimal_pairs_are_named(tmp_path):
    path = write(tmp_path, "a.tsv", "good\tbad\nhe goes\the goes\nhe goes\t \n")
    with pytest.raises(InputError) as refused:
        readers.read("minimal_pairs", path, ["good", "bad"])
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == [
        f"{path}, line 2",
        f"{path}, line 3",
    ]


def test_the_query_of_a_document_may_be_the_document(tmp_path):
    path = write(tmp_path, "a.tsv", "title\ttext\nNile\tNile\nCongo\tA river.\n")
    example, _ = readers.read("retrieval", path, ["title", "text"])
    assert (example.texts, example.labels) == (("Nile", "Nile"), ())


def test_pairs_that_leave_nothing_to_rank_are_refused(tmp_path):
    path = write(tmp_path, "a.tsv", "a\tb\thow\nx\ty\t1\nz\ty\t1\n")
    with pytest.raises(InputError, match="one document alone"):
        readers.read("retrieval", path, ["a", "b"])
    with pytest.raises(InputError, match="all pairs have one number"):
        readers.read("similarity", path, ["how", "a", "b"])


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("a,b,how\nit rains,it pours,0.8\na,b,0\n", ["how", "a", "b"]),
        # As in SemRel2024: both texts in one cell.
        ('how,Text\n0.8,"it rains\nit pours"\n0,"a\nb"\n', ["how", "Text"]),
    ],
)
def test_how_alike_two_texts_are_is_a_number(tmp_path, content, columns):
    example, _ = readers.read("similarity", write(tmp_path, "a.csv", content), columns)
    assert (example.texts, example.labels) == (("it rains", "it pours"), ("0.8",))


def test_mistakes_in_similarities_are_named_together(tmp_path):
    rows = ['"a\nb",high', '"a\nb",nan', '"a\nb\nc",1', '"a",1', '"a\n ",1', '"a\nb",']
    path = write(tmp_path, "a.csv", "Text,how\n" + "\n".join(rows) + "\n")
    with pytest.raises(InputError) as refused:
        readers.read("similarity", path, ["how", "Text"])
    lines = str(refused.value).splitlines()
    assert ["says how alike" in line for line in lines] == [True] * 2 + [False] * 4
    assert ["expected two texts" in line for line in lines] == [False] * 2 + [True] * 3 + [False]
    assert "is empty" in lines[-1]


def test_one_file_is_split_80_10_10_and_always_alike(tmp_path):
    rows = table_of(tmp_path, ["yes", "no"] * 50)
    parts = data.split("classification", rows)
    assert [len(part) for part in parts[:3]] == [80, 10, 10]
    assert sorted(row.texts for part in parts[:3] for row in part) == sorted(
        row.texts for row in rows
    )
    assert parts == data.split("classification", rows)
    with_test = data.split("classification", rows, test=rows[:3])
    assert [len(part) for part in with_test[:3]] == [90, 10, 3]


def test_equal_texts_are_on_one_side_of_a_cut(tmp_path):
    rows = table_of(tmp_path, ["yes", "no"] * 50) * 2
    train, validation, test, _ = data.split("classification", rows)
    assert [len(part) for part in (train, validation, test)] == [160, 20, 20]
    texts = [{row.texts for row in part} for part in (train, validation, test)]
    assert len(set().union(*texts)) == sum(map(len, texts))
    given = data.split("classification", rows[:100], rows[:4], rows[98:102])
    assert data.seen_shares(given) == {"validation": 1.0, "test": 1.0}
    assert data.seen_shares(given._replace(train=rows[:99])) == {"validation": 1.0, "test": 0.75}


def test_a_rare_label_stays_in_train_where_the_split_is_ours(tmp_path):
    rows = table_of(tmp_path, [f"rare{n}" for n in range(40)] + ["common"] * 60)
    parts = data.split("classification", rows)
    assert {row.labels for row in parts.train} == {row.labels for row in rows}
    assert sum(map(len, parts[:3])) == 100
    with pytest.raises(InputError, match=r"a.csv: no example is left for the test split"):
        data.split("classification", rows[:40])


def test_a_label_that_train_never_had_is_named_and_stays(tmp_path, caplog):
    rows = table_of(tmp_path, ["yes", "no"]), table_of(tmp_path, ["no", "maybe", "maybe"], "b.csv")
    splits = data.split("classification", rows[0], rows[1], rows[1])
    data.check_labels("classification", splits)
    assert splits.labels == ["no", "yes"]
    assert [row.labels for row in splits.test] == [("no",), ("maybe",), ("maybe",)]
    named = [record.getMessage() for record in caplog.records]
    assert len(named) == 2  # of validation and of test
    assert all("b.csv, line 3: training never had the label 'maybe'" in line for line in named)
    assert all("(2 in this split)" in line for line in named)


def test_labels_that_train_never_had_are_counted_with_their_places(tmp_path):
    seen = readers.read("ner", write(tmp_path, "a.txt", "Ana B-PER\n"))
    content = "Ana B-PER\nLi I-PER\nNil B-LOC\nNil I-LOC\n\nNil B-LOC\n"
    later = readers.read("ner", write(tmp_path, "b.txt", content))
    known = data.label_inventory("ner", seen)
    assert known == ["O", "B-PER", "I-PER"]
    places = [f"{tmp_path}/b.txt, line {line}" for line in (3, 6)]
    assert data.unseen_labels("ner", known, later) == {"LOC": places}
    text = WORD.format(1, "Ana", "PROPN") + WORD.format(2, "!", "PUNCT")
    later = readers.read("upos", write(tmp_path, "b.conllu", text))
    found = data.unseen_labels("upos", ["PROPN"], later)
    assert found == {"PUNCT": [f"{tmp_path}/b.conllu, line 2"]}


def test_texts_without_two_labels_or_with_none_of_the_known_are_refused(tmp_path):
    two, one = table_of(tmp_path, ["yes", "no"]), table_of(tmp_path, ["yes"] * 3, "one.csv")
    with pytest.raises(InputError, match=r"one\.csv: every training example has the label 'yes'"):
        data.check_labels("classification", data.split("classification", one, two, two))
    other = table_of(tmp_path, ["1", "0"], "other.csv")
    with pytest.raises(InputError, match=r"other\.csv, line 2: .* some of no, yes, found 1, 0"):
        data.check_labels("classification", data.split("classification", two, two, other))


def test_names_that_train_never_had_are_refused(tmp_path):
    train, other = (
        readers.read("ner", write(tmp_path, f"{kind}.txt", f"Ana B-{kind}\nide O\n"))
        for kind in ("PER", "PERSON")
    )
    with pytest.raises(InputError, match=r"PERSON\.txt, line 1: .* found PERSON"):
        data.check_labels("ner", data.split("ner", train, other, other))


def test_a_treebank_without_its_text_is_refused(tmp_path):
    lines = [f"{n}\t_\t_\tNOUN{chr(9)}{chr(9).join('_' * 6)}\n" for n in (1, 2)]
    path = write(tmp_path, "a.conllu", "".join([*lines, "\n"]) * 3)
    with pytest.raises(InputError, match=r"a\.conllu: 3 of 3 sentences have no words .* withheld"):
        readers.read("upos", path)


def test_a_sample_keeps_each_label(tmp_path):
    rows = "".join(f"t{n},{'rare' if n % 50 == 7 else 'common'}\n" for n in range(200))
    train = readers.read("classification", write(tmp_path, "a.csv", f"text,label\n{rows}"))
    for size in (2, 5, 20):
        drawn = data.sample("classification", train, size)
        assert len(drawn) == size
        assert {each.labels[0] for each in drawn} == {"common", "rare"}
        assert drawn == sorted(drawn, key=lambda each: each.lines)
    assert len(data.sample("classification", train, 1)) == 1


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.conllu", TREEBANK, ["vámonos al mar", "10 000"]),
        ("a.csv", 'label,text\n1,"a, b"\n0,c d\n', ["a, b", "c d"]),
        ("a.tsv", "premise\thypothesis\tlabel\na b\tc d\te\nlong\tf\tg\n", ["a b", "c d", "long"]),
        ("a.jsonl", '{"text": "a b", "label": 1}\n', ["a b"]),
        ("A.CSV", "label,text\n1,c d\n", ["c d"]),
        ("a.iob", "0 Ana B-PER\n1 ide O\n\n0 Nil S-LOC\n", ["Ana ide", "Nil"]),
        ("a.txt", "First line.\n\nSecond line.\r\n", ["First line.", "Second line."]),
    ],
)
def test_bare_texts_of_every_format(tmp_path, name, content, expected):
    assert list(readers.read_texts(write(tmp_path, name, content))) == expected
    packed = write(tmp_path, f"{name}.gz", gzip.compress(content.encode()))
    assert list(readers.read_texts(packed)) == expected


def test_reading_imports_nothing_heavy():
    program = (
        "import sys, eliquare.evaluation.data; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'datasets')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_task_is_loaded_with_its_labels(tmp_path):
    rows = "".join(f"a{n},x\nb{n},y\n" for n in range(50))
    train = write(tmp_path, "a.csv", f"text,label\n{rows}")
    task = TaskData(kind="classification", language="qaa", train=str(train))
    loaded = data.load(task, max_train_samples=30)
    assert loaded.labels == ["x", "y"]
    assert [len(part) for part in loaded[:3]] == [30, 10, 10]
    with pytest.raises(ValidationError, match="needs the key 'text_pair_column'"):
        TaskData(kind="pair", language="qaa", train=str(train))


def test_too_few_drawn_examples_name_the_key(tmp_path):
    rows = "".join(f"a{n},x\nb{n},y\n" for n in range(50))
    texts = write(tmp_path, "a.csv", f"text,label\n{rows}")
    names = write(tmp_path, "a.txt", "Ana B-PER\n\n" + "".join(f"{n} O\n\n" for n in range(40)))
    for kind, train in (("classification", texts), ("ner", names)):
        task = TaskData(kind=kind, language="qaa", train=str(train), test=str(train))
        with pytest.raises(InputError, match=r"a\.\w+: of the 1 .* raise .* max_train_samples"):
            data.load(task, max_train_samples=1)


# Counted with awk and sort, not with these readers: sentences are runs of lines, words are lines
# whose first column is a number.
WORDS = {
    ("fr", "upos"): (50502 + 9999 + 10044, "dev test train"),
    ("mr", "upos"): (2997 + 438 + 412, "dev test train"),
    ("nl", "upos"): (88929 + 4616 + 4562, "dev test train"),
    ("uk", "upos"): (12606 + 17217, "dev test"),
    ("sw", "ner"): (7263 + 15409 + 56599, "dev test train"),
    ("nl", "ner"): (84146 + 85122 + 169449, "dev test train"),
}
ROWS = {
    "he/sentiment": 846 + 1695 + 5926,
    "sl/sentiment": 4777,
    "sw/news": 237 + 476 + 350,
    "sw/sentiment": 453 + 748 + 1810,
}
COLUMNS = {"he/sentiment": "comment", "sw/sentiment": "tweet"}


@needs_data
def test_every_real_tagging_file_reads():
    found = {}
    for path in sorted([*TASKS.glob("*/upos/*"), *TASKS.glob("*/ner/*")]):
        language, kind = path.parts[-3:-1]
        sentences = readers.read(kind, path)
        assert all(sentence.texts and all(sentence.texts) for sentence in sentences), path
        count, names = found.get((language, kind), (0, ""))
        count += sum(len(sentence.texts) for sentence in sentences)
        found[language, kind] = (count, f"{names} {path.stem}".strip())
    for task, expected in WORDS.items():
        assert found[task] == expected, task


@needs_data
def test_every_real_table_reads():
    found = Counter()
    for path in sorted(TASKS.glob("*/*/*.?sv")):
        task = "/".join(path.parts[-3:-1])
        if task.endswith("ner"):
            continue
        label = "category" if task.endswith(("topic", "news")) else "label"
        columns = (label, COLUMNS.get(task, "text"))
        if task == "tl/hatespeech":
            with pytest.raises(InputError, match="is empty") as error:
                readers.read("classification", path, columns)
            line = int(re.search(r"line (\d+)", str(error.value))[1])
            raw = path.read_bytes().split(b"\n")
            # The row may begin on this line and end on a later one.
            assert re.search(rb",\r?\n", b"\n".join(raw[line - 1 : line + 30]) + b"\n")
            continue
        rows = readers.read("classification", path, columns)
        found[task] += len(rows)
    for task, expected in found.items():
        assert expected == (1004 if task.endswith("topic") else ROWS[task]), task
    assert set(ROWS) < set(found)


def test_a_quote_of_the_text_joins_no_rows_of_a_tsv(tmp_path):
    """Files that were written without quoting: the quote of one row closes in another."""
    rows = ['"Reka\tyes', "teče\tno", 'dol"\tyes', "mimo\tno"]
    path = write(tmp_path, "a.tsv", "text\tlabel\n" + "\n".join(rows) + "\n")
    with pytest.raises(InputError, match=r"a.tsv, line 2: a quote opens here that closes in an"):
        readers.read("classification", path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"text": "\\ud800", "label": "a"}', "is half of a character"),
        ('{"text": ' + "9" * 5000 + ', "label": "a"}', "not JSON"),
        ("[" * 5000, "not JSON"),
    ],
    ids=["half a character", "digits", "nested"],
)
def test_json_lines_that_python_cannot_hold(tmp_path, text, said):
    path = write(tmp_path, "a.jsonl", '{"text": "a", "label": "b"}\n' + text + "\n")
    for read in (lambda: readers.read("classification", path), lambda: [*readers.read_texts(path)]):
        with pytest.raises(InputError, match=rf"a.jsonl, line 2: .*{said}"):
            read()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv.gz", "text,label\n" + "a" * 2000, "a line of more than"),
        ("a.csv.gz", 'text,label\n"' + "a\n" * 2000, "line 2: .*field larger than field limit"),
        ("a.jsonl.bz2", '{"text": "' + "a" * 2000, "a line of more than"),
        ("a.conllu", "1\t" + "a" * 2000, "a line of more than"),
    ],
    ids=["line", "field of many lines", "JSON", "CoNLL-U"],
)
def test_a_line_or_field_without_end_is_refused(tmp_path, monkeypatch, name, content, said):
    """Whatever it decompresses to, memory has a limit."""
    monkeypatch.setattr(documents, "BLOCK_BYTES", 100)
    for module in (documents, readers):
        monkeypatch.setattr(module, "LINE_BYTES", 1000)
    compress = {"gz": gzip.compress, "bz2": bz2.compress}.get(name.rpartition(".")[2], bytes)
    path = write(tmp_path, name, compress(content.encode()))
    with pytest.raises(InputError, match=said):
        list(readers.read_texts(path))


def test_a_field_of_any_length_is_read(tmp_path):
    path = write(tmp_path, "a.csv", f"text,label\n{'ab ' * 100_000},x\n")
    ((long,),) = [each.texts for each in readers.read("classification", path)]
    assert len(long) == len(next(readers.read_texts(path))) == 300_000


def test_a_split_without_entities_has_no_f1(tmp_path, caplog):
    some = readers.read("ner", write(tmp_path, "some.txt", "Ana B-PER\nide O\n"))
    none = readers.read("ner", write(tmp_path, "none.txt", "dan O\nje O\n"))
    data.check_labels("ner", data.split("ner", some, none, some))
    assert "none.txt: no entity in the validation split" in caplog.text
    for parts, name in (((none, some, some), "train"), ((some, some, none), "test")):
        with pytest.raises(InputError, match=rf"none.txt: no entity in the {name} split"):
            data.check_labels("ner", data.split("ner", *parts))


@pytest.mark.parametrize("number", ["1-x", "1-" + "9" * 5000, "9" * 5000])
def test_a_number_that_is_none_is_a_mistake_of_its_line(tmp_path, number):
    rest = "\ta\t_\tNOUN" + "\t_" * 6
    path = write(tmp_path, "a.conllu", f"{number}{rest}\n")
    with pytest.raises(InputError, match=r"a.conllu, line 1: word '"):
        list(readers.read_texts(path))
