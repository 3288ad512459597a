"""A small configuration that has one of everything."""

import pytest
import yaml

SMALL = """
name: small
languages:
  sl: {corpus: {source: text, files: [sl.txt]}}
  sw: {corpus: {source: dump}}
mixtures: {both: [sl, sw]}
teachers:
  big:
    source: pretrain
    corpus: both
    num_hidden_layers: 4
    hidden_size: 64
    num_attention_heads: 4
    training: {max_steps: 10}
vocabularies: {sentences: {min_sentence_fraction: 0.0005}}
students:
  full: {teacher: big, num_hidden_layers: 2, training: {num_train_epochs: 1}}
  pre: {extends: full, vocabulary: sentences}
  post: {reduced_from: full, vocabulary: sentences}
tasks:
  names: {language: sl, kind: ner, train: sl.txt}
  pairs:
    language: sw
    kind: pair
    text_pair_column: b
    train: sw.csv
    finetuning: {num_train_epochs: 3}
finetuning: {num_train_epochs: 2}
experiment: {systems: [big, full, pre, post]}
"""


@pytest.fixture
def text() -> str:
    return SMALL


@pytest.fixture
def small() -> dict:
    return yaml.safe_load(SMALL)
