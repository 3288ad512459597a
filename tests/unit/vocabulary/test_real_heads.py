"""On top of the small models: a real multilingual encoder, reduced to Swahili under every head."""

import json

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from eliquare.config.model import SelectionRule
from eliquare.models.sentence import Sentence, write_sentence
from eliquare.vocabulary import select
from families import add_dense, reduce_model
from real_data import DATA, TEACHER, needs_teacher

pytestmark = needs_teacher


@pytest.fixture(scope="module")
def selected(tmp_path_factory):
    """Return a Swahili text, and the tokens that stay."""
    lines = (DATA / "tasks/sw/topic/train.tsv").read_text(encoding="utf-8").splitlines()
    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text("\n".join(line.split("\t")[-1] for line in lines[1:]), encoding="utf-8")
    rule = SelectionRule(min_count=1)
    return text, select.select_tokens(TEACHER, [select.count_text(text, TEACHER)], rule)


@pytest.mark.parametrize("head", ["classifier", "pair head", "sentence", "tied", "untied"])
def test_a_real_encoder_is_the_same_under_every_head(head, selected, tmp_path):
    torch.manual_seed(0)
    model = tmp_path / "model"
    if head in ("classifier", "pair head"):
        labels = 1 if head == "pair head" else 7
        made = AutoModelForSequenceClassification.from_pretrained(TEACHER, num_labels=labels)
    elif head == "sentence":
        made = AutoModel.from_pretrained(TEACHER)
    else:
        config = AutoConfig.from_pretrained(TEACHER)
        config.tie_word_embeddings = head == "tied"
        made = AutoModelForMaskedLM.from_pretrained(TEACHER, config=config)
    made.save_pretrained(model)
    AutoTokenizer.from_pretrained(TEACHER).save_pretrained(model)
    if head == "sentence":
        prompts = {"query": "query: ", "passage": "passage: "}
        write_sentence(model, Sentence("mean", True, prompts), made.config.hidden_size)
        add_dense(model, made.config.hidden_size)
    width = made.config.hidden_size
    del made
    text, tokens = selected
    findings = reduce_model(model, tokens, tmp_path / "new", text)
    print(json.dumps(findings, indent=1))
    assert findings["hidden_states"] == "equal bit for bit"
    assert findings["tokens"] < 20_000
    assert findings["mlm_head"] == (head in ("tied", "untied"))
    if head == "sentence":
        assert findings["other_head"]["modules"] == ["Transformer", "Pooling", "Dense", "Normalize"]
        assert findings["other_head"]["prompts"] == 2
    elif not findings["mlm_head"]:
        assert findings["other_head"]["texts"] == 16
    assert AutoConfig.from_pretrained(tmp_path / "new").hidden_size == width
