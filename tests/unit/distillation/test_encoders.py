"""Sentence encoders as teachers: their students, the terms on embeddings, prompts."""

import logging
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

import families
import objective_models
import trainings
import worlds
from eliquare.config.objective import Objective
from eliquare.distillation import losses
from eliquare.distillation.objective import Distillation, Teacher, mean_similarity
from eliquare.io import InputError
from eliquare.models.loading import load_masked_lm, load_model, load_tokenizer
from eliquare.models.sentence import Sentence, read_sentence, write_sentence
from eliquare.training.data import PromptInserter, load_data, tokens_of
from eliquare.vocabulary.reduce import ReduceOptions, reduce
from eliquare.vocabulary.select import SelectOptions, select

SENTENCE = Sentence("mean", True, {"query": "ba: ", "passage": "ko lu: "})


@pytest.fixture(scope="module")
def encoder(world, tmp_path_factory):
    """A sentence encoder: no head, mean pooling, prompts."""
    return write_encoder(world.tokenizer, tmp_path_factory.mktemp("encoder"))


def write_encoder(tokenizer, folder):
    model = load_model(trainings.write_model(tokenizer, folder / "whole")).base_model
    model.save_pretrained(folder / "encoder")
    load_tokenizer(folder / "whole").save_pretrained(folder / "encoder")
    write_sentence(folder / "encoder", SENTENCE, model.config.hidden_size)
    return folder / "encoder"


def distilled(world, encoder, output, **changes):
    changes = {"start_from": None, "num_hidden_layers": 2, "initialization": "even"} | changes
    return world.distill(output, student=encoder, teachers=[encoder], **changes)


@pytest.mark.parametrize("preset", ["sentence", "tinybert", "minilm"])
def test_a_student_of_an_encoder_is_an_encoder(world, encoder, tmp_path, preset):
    objective = {"preset": preset} | ({"relations": {"heads": 4}} if preset == "minilm" else {})
    student = distilled(world, encoder, tmp_path / "student", objective=objective)
    assert read_sentence(student) == read_sentence(encoder)
    loaded = SentenceTransformer(str(student), device="cpu")
    assert loaded.encode(["ba ko", "lu"]).shape == (2, 32)
    assert AutoModel.from_pretrained(student).config.architectures == ["BertModel"]
    with pytest.raises(InputError, match="no head for masked language modelling"):
        load_masked_lm(student)
    history = [line for line in trainings.history_of(student) if "eval_loss" in line]
    assert history[-1]["eval_loss"] < history[0]["eval_loss"]


def test_a_student_may_start_from_another_encoder(world, encoder, tmp_path):
    other = write_encoder(world.tokenizer, tmp_path / "other")
    objective = {"preset": "sentence"}
    student = distilled(world, encoder, tmp_path / "out", objective=objective, start_from=other)
    assert read_sentence(student) == read_sentence(other)


def test_with_mlm_the_student_gets_a_head_of_its_own(world, encoder, tmp_path):
    objective = {"preset": "sentence", "mlm": 1.0}
    student = distilled(world, encoder, tmp_path / "student", objective=objective)
    load_masked_lm(student)
    SentenceTransformer(str(student), device="cpu").encode(["ba"])


def test_a_narrow_student_learns_through_a_projection(world, encoder, tmp_path):
    shape = {"hidden_size": 16, "num_attention_heads": 4, "initialization": "blank"}
    objective = {"preset": "sentence", "sentence_mse": 1.0, "similarity": 1.0}
    student = distilled(world, encoder, tmp_path / "student", objective=objective, **shape)
    assert SentenceTransformer(str(student), device="cpu").encode(["ba"]).shape == (1, 16)


@pytest.mark.parametrize("term", ["kl", "mse"])
def test_an_encoder_predicts_no_tokens(world, encoder, tmp_path, term):
    objective = {"preset": "none", term: 1.0}
    with pytest.raises(InputError, match=f"{term}: .* predicts no tokens"):
        distilled(world, encoder, tmp_path / "student", objective=objective)


def test_embeddings_need_a_pooling(world, tmp_path):
    with pytest.raises(InputError, match="sentence_cosine: the teacher does not say"):
        world.distill(tmp_path / "student", objective={"preset": "sentence"})


def test_adapting_an_encoder_trains_a_head(world, encoder, tmp_path):
    adapted = world.pretrain(tmp_path / "adapted", model=encoder)
    load_masked_lm(adapted)
    losses_seen = [
        line["eval_loss"] for line in trainings.history_of(adapted) if "eval_loss" in line
    ]
    assert losses_seen[-1] < losses_seen[0]


def test_a_reduced_encoder_gets_a_head_on_a_mixture_of_languages(tmp_path):
    """The head has a row for each token that stays, and the teacher then teaches predictions."""
    texts = worlds.texts("qaa") + worlds.texts("qab")  # in Latin and in Cyrillic letters
    mixture, text = worlds.write_documents(tmp_path / "mixture", texts), tmp_path / "text.txt"
    text.write_text("\n".join(texts))
    tokenizer = worlds.write_tokenizer("wordpiece", tmp_path / "all", texts)
    encoder = str(write_encoder(tokenizer, tmp_path))
    tokens, reduced = tmp_path / "tokens.csv", tmp_path / "reduced"
    select(SelectOptions(model=encoder, text=[text], min_count=9, output=tokens))
    reduce(ReduceOptions(model=encoder, vocabulary=tokens, sample=mixture, output=reduced))
    trainings.tokenize_and_mask(tmp_path, mixture, reduced)
    data = (tmp_path / "sequences", tmp_path / "masking")
    world = trainings.World(tmp_path, reduced, *data, reduced, reduced)

    adapted = world.pretrain(tmp_path / "adapted", model=reduced, max_steps=120)
    model, size = load_masked_lm(adapted), len(load_tokenizer(adapted))
    assert size == len(load_tokenizer(reduced)) < len(load_tokenizer(encoder)) - 50
    assert (*model.get_output_embeddings().weight.shape,) == (size, 32)
    seen = [line["eval_loss"] for line in trainings.history_of(adapted) if "eval_loss" in line]
    assert seen[-1] < seen[0]
    unknown = load_tokenizer(adapted).unk_token_id
    for line in (texts[0], texts[-1]):
        assert unknown not in load_tokenizer(adapted)(line[:40])["input_ids"]
    options = {"teachers": [adapted], "student": adapted, "start_from": None}
    shape = {"num_hidden_layers": 2, "initialization": "even"}
    student = world.distill(tmp_path / "student", **options, **shape, max_steps=2, num_evals=1)
    assert trainings.history_of(student)[-1]["eval_kl"] > 0


def objective_of(terms, student=None, teacher=None, sentence=SENTENCE):
    student = student or objective_models.make(seed=1)
    teacher = teacher or objective_models.make(seed=2)
    torch.manual_seed(5)
    objective = Objective.model_validate({"preset": "none"} | terms)
    return Distillation(student, [Teacher(teacher, predicts=False)], objective, sentence), student


def plain_embeddings(model, batch):
    """Return the mean of the last states of the text without masks."""
    ids = torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])
    mask = batch["attention_mask"]
    states = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    return (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)


@pytest.mark.parametrize("name", ["sentence_cosine", "sentence_mse", "similarity"])
def test_terms_on_embeddings_equal_a_plain_computation(name):
    teacher = objective_models.make(seed=2)
    objective, student = objective_of({name: 1.0}, teacher=teacher)
    batch = objective_models.make_batch()
    count = objective.counts(batch)[name]
    found = objective(student, batch, {name: 1.0})
    own, other = (F.normalize(plain_embeddings(each, batch), dim=-1) for each in (student, teacher))
    expected = {
        "sentence_cosine": (1 - (own * other).sum(-1)).sum(),
        "sentence_mse": ((own - other) ** 2).sum(),
        "similarity": ((own @ own.mT - other @ other.mT) ** 2).sum(),
    }[name]
    # Embeddings are pooled in float32.
    torch.testing.assert_close(found.sums[name], expected.float(), rtol=1e-4, atol=1e-5)
    assert count == (6 if name == "similarity" else 3)
    found.loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())


def test_with_a_term_on_predictions_the_text_is_masked():
    objective, _ = objective_of({"mlm": 1.0, "sentence_cosine": 1.0})
    assert not objective.unmasked
    assert objective_of({"sentence_cosine": 1.0})[0].unmasked
    assert not objective_of({"cosine": 1.0}, sentence=None)[0].unmasked


def test_similarities_of_one_text_are_nothing():
    states = torch.randn(1, 8)
    assert losses.similarity(states, -states) == 0


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_prompt_stands_before_each_text(world, encoder, tmp_path, part):
    options = world.options(tmp_path / "out", student=encoder)
    model, tokenizer = load_model(encoder), load_tokenizer(encoder)
    sets = (load_data(options, model, tokenizer, prompts) for prompts in ((), ["ko lu: "]))
    plain, prompted = (getattr(data, part).__getitems__(range(4)) for data in sets)
    prompt = tokenizer.encode("ko lu: ", add_special_tokens=False)
    for before, after in zip(plain, prompted, strict=True):
        assert after[0].tolist() == [before[0][0], *prompt, *before[0][1:]]
        assert after[1].tolist() == [before[1][0], *[-100] * len(prompt), *before[1][1:]]


def test_each_text_has_each_prompt_in_turn(world, encoder, tmp_path):
    options = world.options(tmp_path / "out", student=encoder)
    tokenizer = load_tokenizer(encoder)
    prompts = read_sentence(encoder).training_prompts
    assert prompts == ["ko lu: ", "ba: "]
    data = load_data(options, load_model(encoder), tokenizer, prompts)
    starts = [tokenizer.encode(prompt, add_special_tokens=False) for prompt in prompts]

    def numbers(items):
        return [
            next(n for n, start in enumerate(starts) if ids[1 : 1 + len(start)].tolist() == start)
            for ids, _ in items
        ]

    rows = range(10)
    first, second = (numbers(data.train.masked(epoch, rows)) for epoch in (0, 1))
    assert first == [0, 1] * 5
    assert second == [1, 0] * 5
    fixed = data.validation.__getitems__(range(len(data.validation)))
    assert numbers(fixed) == [row % 2 for row in data.validation.rows]


def test_a_student_knows_which_prompt_is_of_queries_and_which_of_documents(
    world, encoder, tmp_path
):
    objective = {"preset": "none", "sentence_mse": 1}
    student = distilled(world, encoder, tmp_path / "student", objective=objective)
    teacher, student = (
        SentenceTransformer(str(folder), device="cpu") for folder in (encoder, student)
    )
    texts = ["ba ko", "lu", "ti ti ba", "ko lu ko lu"]
    for name, method in (("query", "encode_query"), ("passage", "encode_document")):
        for model in (teacher, student):
            asked = getattr(model, method)(texts)
            assert np.array_equal(asked, model.encode(texts, prompt_name=name))
    assert not np.array_equal(student.encode_query(texts), student.encode_document(texts))


@pytest.mark.parametrize("family", ["bert", "xlmr", "deberta", "roberta", "modernbert", "mmbert"])
def test_a_prompt_and_a_text_read_as_both_together(family):
    tokenizer = families.TOKENIZERS[family](None)
    prompt, text = "ko lu: ", "ti ba ko"
    ids = np.asarray(tokenizer.encode(text))
    together, _ = tokens_of([prompt], tokenizer, 64).put(0, (ids, ids))
    expected = tokenizer.encode(prompt + text)
    if family in ("bert", "xlmr", "deberta"):
        assert together.tolist() == expected
    else:
        # Their texts begin without a space, so the space is a token of the prompt.
        assert tokenizer.decode(together) == tokenizer.decode(expected)


def test_a_long_text_is_cut_before_its_last_token():
    ids = torch.tensor([1, 4, 5, 6, 2]).numpy()
    cut, labels = PromptInserter([[7, 8]], longest=5).put(0, (ids, ids))
    assert cut.tolist() == [1, 7, 8, 4, 2]
    assert labels.tolist() == [1, -100, -100, 4, 2]


def test_a_prompt_that_leaves_no_room_is_refused(world, encoder, tmp_path):
    options = world.options(tmp_path / "out", student=encoder)
    prompts = ["ba: ", "ba ko " * 40, "ko " * 90]
    with pytest.raises(InputError, match=r"prompts: .* tokens, .* tokens, and the model takes 64"):
        load_data(options, load_model(encoder), load_tokenizer(encoder), prompts)


def test_embeddings_that_are_all_alike_are_said(world, encoder, tmp_path, caplog):
    model = load_model(encoder)
    with torch.no_grad():
        last = model.encoder.layer[-1].output.LayerNorm
        last.weight.mul_(0.01)
        last.bias.fill_(1.0)
    alike = tmp_path / "alike"
    model.save_pretrained(alike)
    load_tokenizer(encoder).save_pretrained(alike)
    write_sentence(alike, SENTENCE, 32)
    with caplog.at_level(logging.WARNING):
        distilled(world, alike, tmp_path / "student", objective={"preset": "sentence"})
    assert re.search(r"nearly alike \(mean cosine of different texts (0\.9|1\.0)", caplog.text)
    batch = objective_models.make_batch()
    other = objective_models.make(seed=4)
    assert mean_similarity(other, batch, SENTENCE) < 0.9
