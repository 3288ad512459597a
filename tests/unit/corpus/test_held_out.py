"""The sample of held-out text: of validation documents alone, the same in any order."""

import csv

import pytest

import worlds
from eliquare.corpus import held_out, sequences
from eliquare.corpus.documents import WORD
from eliquare.corpus.tokenization import split_sentences
from eliquare.io import InputError


def sample(folder, documents, **options):
    source = worlds.write_documents(folder / "documents", documents)
    output = folder / "held_out.txt"
    held_out.sample(held_out.SampleOptions(documents=source, output=output, **options))
    return output.read_text().splitlines()


def validation_texts(documents, fraction=0.1):
    numbers = [sequences.document_number(text) for text in documents]
    threshold = sequences.validation_threshold(numbers, fraction)
    return [text for text, number in zip(documents, numbers, strict=True) if number < threshold]


def test_sentences_are_of_validation_documents(tmp_path):
    documents = list(worlds.texts())
    found = sample(tmp_path, documents, language="qaa", sentences=50)
    held = " ".join(" ".join(validation_texts(documents)).split())
    assert found
    assert all(sentence in held for sentence in found)
    assert len(found) == len(set(found)) == 50


def test_of_the_training_part_fewer_sentences_are_the_first_of_more(tmp_path):
    documents = list(worlds.texts())
    held = " ".join(" ".join(validation_texts(documents)).split())
    few, many = (
        sample(tmp_path / str(number), documents, part="training", sentences=number)
        for number in (7, 40)
    )
    assert (len(few), len(many)) == (7, 40)
    assert few == many[:7]
    assert not any(sentence in held for sentence in many)


def test_the_order_of_the_documents_changes_nothing(tmp_path):
    documents = list(worlds.texts())
    first = sample(tmp_path / "first", documents, sentences=20)
    assert sample(tmp_path / "other", documents[::-1], sentences=20) == first


def test_as_many_documents_as_possible_give_a_sentence(tmp_path):
    documents = list(worlds.texts())
    held = validation_texts(documents, 0.5)
    found = sample(tmp_path, documents, validation_fraction=0.5, sentences=len(held))
    owners = {
        number
        for number, text in enumerate(held)
        for sentence in found
        if sentence in " ".join(text.split())
    }
    assert len(owners) >= 0.9 * len(held)


def test_short_sentences_are_left_out_and_long_ones_end_at_a_space(tmp_path):
    text = f"{'slovo ' * 300}\nOne two.\nOne two three four five."
    found = sample(tmp_path, [f"{text} {number}" for number in range(30)])
    assert all(len(WORD.findall(sentence)) >= 5 for sentence in found)
    long = next(sentence for sentence in found if sentence.startswith("slovo"))
    assert 190 < len(long) <= 200
    assert long.endswith("slovo")


def test_text_without_sentences_is_refused(tmp_path):
    assert split_sentences("One two.", "en")
    with pytest.raises(InputError, match="no sentence of 5 words"):
        sample(tmp_path, [f"Word {number}." for number in range(30)])


def pairs_of(folder, documents, titles=()):
    source = worlds.write_documents(folder / "documents", documents, titles)
    files = {"output": folder / "held_out.txt", "pairs": folder / "retrieval.tsv"}
    held_out.sample(held_out.SampleOptions(documents=source, validation_fraction=0.5, **files))
    with (folder / "retrieval.tsv").open(newline="") as file:
        return [(row["query"], row["text"]) for row in csv.DictReader(file, delimiter="\t")]


def test_a_document_without_a_title_is_found_by_its_first_sentence(tmp_path):
    spaces = ("  ", "\u00a0", "\t", " ")
    texts = [
        f'Document {n}{spaces[n % 4]}begins like this. It says "{n}"\tand\ngoes on.'
        for n in range(80)
    ]
    pairs = pairs_of(tmp_path, texts)
    assert 20 < len(pairs) < 80
    assert {int(query.split()[1]) % len(spaces) for query, _ in pairs} == set(range(len(spaces)))
    assert all(query.endswith("begins like this.") for query, _ in pairs)
    assert {text.split('"')[1] for _, text in pairs} == {query.split()[1] for query, _ in pairs}
    assert all(text.endswith("and goes on.") for _, text in pairs)


def test_titles_find_their_documents(tmp_path):
    texts = [f"This text number {n} has a title." for n in range(80)]
    pairs = pairs_of(tmp_path, texts, [f"Title  {n}" for n in range(80)])
    assert pairs
    assert all(text == texts[int(query.removeprefix("Title "))] for query, text in pairs)


def test_few_pairs_are_none(tmp_path):
    # Among so few documents, chance finds many.
    two = [f"Document {number} begins like this. And it goes on with more." for number in range(80)]
    pairs = pairs_of(tmp_path / "all", two)
    one = [f"Sentence number {number} stands alone." for number in range(80)]
    least = held_out.MIN_PAIRS
    for count, expected in ((least, least), (least - 1, 0)):
        some = [f"{query} And it goes on with more." for query, _ in pairs[:count]]
        assert len(pairs_of(tmp_path / str(count), some + one)) == expected
