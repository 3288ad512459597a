"""What each threshold keeps of mBERT for four languages, on real line counts; the docs say so."""

import sys
from pathlib import Path

import pytest
from transformers import DistilBertConfig
from vocabulary_helpers import DATA, needs_data

from eliquare.vocabulary.weights import parameter_count

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import kept_by_language  # noqa: E402

pytestmark = needs_data


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_of_the_docs_is_what_the_counts_give():
    made = [cells(line) for line in kept_by_language.table(DATA).splitlines()]
    written = (BENCHMARKS / "README.md").read_text(encoding="utf-8").splitlines()
    written = [cells(line) for line in written if line.startswith("|")]
    assert all(row in written for row in [made[0], *made[2:]])


@pytest.mark.parametrize("code", ["sw", "fr"])
def test_fewer_subwords_at_a_higher_threshold_and_never_66_million(code):
    """At the papers' own threshold no language comes to their 66 million."""
    numbers = kept_by_language.kept_numbers(DATA, code)
    ascending = [numbers[threshold] for threshold in sorted(numbers)]
    assert ascending == sorted(ascending, reverse=True)
    assert kept_by_language.student_parameters(numbers[0.0005]) < 60e6


def test_66_million_is_the_size_of_english_distilbert():
    assert round(parameter_count(DistilBertConfig(), head=False) / 1e6) == 66
    assert round(kept_by_language.student_parameters(29_300) / 1e6) == 66
