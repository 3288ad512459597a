"""On top of the generated text: mBERT's own vocabulary, on real text in eight scripts."""

import gzip
import sys

import pytest
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    DistilBertConfig,
)

from eliquare.config.model import SelectionRule
from eliquare.models.loading import parameter_count
from eliquare.vocabulary import select as selection
from families import reduce_model
from real_data import DATA, needs_data
from tiny_project import PROJECT

pytestmark = needs_data
BENCHMARKS = PROJECT / "tests" / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import kept_by_language  # noqa: E402

LANGUAGES = ["uk", "mr", "bn", "ja", "he", "fr", "sw"]


@pytest.fixture(scope="module")
def mbert(tmp_path_factory):
    """Return a folder with mBERT's tokenizer and a narrow model."""
    folder = tmp_path_factory.mktemp("mbert")
    with gzip.open(DATA / "mbert/vocab.txt.gz", "rt", encoding="utf-8") as file:
        tokens = [line for line in file.read().split("\n") if line]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    BertTokenizerFast(
        vocab=vocabulary, do_lower_case=False, strip_accents=False, model_max_length=512
    ).save_pretrained(folder)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    BertForMaskedLM(
        BertConfig(vocab_size=len(tokens), intermediate_size=8, **shape)
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_reduction_is_exact_on_real_text(mbert, language, tmp_path):
    lines = (DATA / f"tasks/{language}/topic/train.tsv").read_text(encoding="utf-8").splitlines()
    text = tmp_path / "text.txt"
    text.write_text("\n".join(line.split("\t")[-1] for line in lines[1:]), encoding="utf-8")
    corpus = selection.count_text(text, mbert)
    selected = selection.select_tokens(mbert, [corpus], SelectionRule(coverage=0.99))
    findings = reduce_model(mbert, selected, tmp_path / "new", text)
    assert findings["texts"]["corpus"]["sentences_compared"] == 16


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_of_the_docs_is_what_the_counts_give():
    made = [cells(line) for line in kept_by_language.table(DATA).splitlines()]
    written = (PROJECT / "docs" / "benchmarks.md").read_text(encoding="utf-8").splitlines()
    written = [cells(line) for line in written if line.startswith("|")]
    assert all(row in written for row in made[2:])


@pytest.mark.parametrize("code", ["sw", "fr"])
def test_fewer_tokens_at_a_higher_threshold_and_never_66_million(code):
    """At the papers' own threshold no language comes to their 66 million."""
    numbers = kept_by_language.kept_numbers(DATA, code)
    ascending = [numbers[threshold] for threshold in sorted(numbers)]
    assert ascending == sorted(ascending, reverse=True)
    assert kept_by_language.student_parameters(numbers[0.0005]) < 60e6


def test_66_million_is_the_size_of_english_distilbert():
    assert round(parameter_count(DistilBertConfig(), head=False) / 1e6) == 66
    assert round(kept_by_language.student_parameters(29_300) / 1e6) == 66
