"""Where everything stands: what experiments share, and that no two things share a place."""

from itertools import combinations
from pathlib import Path

import pytest
import yaml

from eliquare import settings
from eliquare.layout import FULL, Layout

ROOT = Path(__file__).parents[2]

CONFIG = """
name: small
languages:
  sl: {corpus: {source: dump}}
  sw: {corpus: {source: dump}}
mixtures: {both: [sl, sw]}
teachers:
  big: {source: pretrain, corpus: both, training: {steps: 10}}
  ready: {source: folder, model: resources/models/ready}
  told: {source: condition, teacher: ready, training: {steps: 10}}
  retold: {source: condition, teacher: told, training: {steps: 10}}
vocabularies: {sentences: {share_of_sentences: 0.0005}, few: {top_k: 100}}
students:
  full: {teacher: ready, training: {epochs: 1}}
  post: {vocabulary: post, of: full, rule: sentences}
  pre: {like: full, vocabulary: pre, rule: sentences}
  of-told: {like: full, teacher: told}
  pre-of-retold: {like: pre, teacher: retold}
  many: {like: full, corpus: both}
  many-post: {vocabulary: post, of: many, rule: few}
  many-pre: {like: pre, corpus: both}
  scratch: {like: full, initialisation: blank, training: {epochs: null, steps: 0}}
  here: {like: full, languages: [sl]}
systems:
  cut: {teacher: ready, rule: few}
tasks:
  names: {language: sl, kind: ner, train: sl.txt}
  topics: {language: sw, kind: classification, train: sw.csv}
experiment:
  systems: [big, ready, told, retold, full, post, pre, of-told, pre-of-retold, many, many-post,
    many-pre, scratch, here, cut]
"""


@pytest.fixture
def layout() -> Layout:
    return Layout(settings.complete(yaml.safe_load(CONFIG)))


def test_only_what_people_read_has_the_experiment_in_its_path(layout):
    other = yaml.safe_load(CONFIG) | {"name": "another"}
    other["experiment"] = {"systems": ["full"], "languages": ["sl"], "seeds": [9]}
    other = Layout(settings.complete(other))
    assert layout.experiment() == Path("results/small")
    assert other.experiment() == Path("results/another")
    for system in ("ready", "full", "post", "pre", "told"):
        assert layout.model(system, "sl") == other.model(system, "sl")
        assert layout.measured("sl", system) == other.measured("sl", system)
        assert layout.finetuned("names", system, 1) == other.finetuned("names", system, 1)
    assert layout.documents("sl") == other.documents("sl")


@pytest.mark.parametrize("name", ["electronics2023", "coling2022"])
def test_the_first_run_and_the_papers_share_corpora_and_teacher(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    first = Layout(settings.load("config/config.yaml"))
    paper = Layout(settings.load(f"config/experiments/{name}.yaml"))
    assert first.prepared("sl", "mbert", FULL) == paper.prepared("sl", "mbert", FULL)
    assert first.model("mbert", "sl") == paper.model("mbert", "sl")


def test_what_two_papers_train_differently_stands_apart(monkeypatch):
    """coling2022 and electronics2023 state other budgets for students and for fine-tuning."""
    monkeypatch.chdir(ROOT)
    one, other = (
        Layout(settings.load(f"config/experiments/{name}.yaml"))
        for name in ("coling2022", "electronics2023")
    )

    def made(layout):
        students = [pair for pair in layout.pairs() if pair[1] in layout.config["students"]]
        return {layout.model(system, language) for language, system in students} | {
            layout.finetuned(*run) for run in layout.runs()
        }

    assert not made(one) & made(other)


def test_a_student_cut_afterwards_is_not_trained_again(layout):
    assert layout.distilled_by("post") == "full"
    assert layout.history("post", "sl") == layout.history("full", "sl")
    assert layout.model("post", "sl") == Path("results/students/post/sl/reduced")
    assert layout.model("full", "sl") == Path("results/students/full/sl/distilled")


def test_a_student_cut_before_has_sequences_of_its_own(layout):
    assert layout.vocabulary_of("pre") == "sentences"
    assert layout.vocabulary_of("full") == layout.vocabulary_of("post") == FULL
    assert layout.prepared("sl", "ready", "sentences") != layout.prepared("sl", "ready", FULL)


def test_a_conditioned_teacher_shares_tokenizer_and_sequences_with_its_root(layout):
    assert layout.root("retold") == layout.root("told") == "ready"
    for vocabulary in (FULL, "sentences"):
        sequences = {
            layout.prepared("sl", name, vocabulary) for name in ("ready", "told", "retold")
        }
        tokenizers = {
            layout.tokenizer("sl", name, vocabulary) for name in ("ready", "told", "retold")
        }
        assert len(sequences) == len(tokenizers) == 1


def test_a_conditioned_teacher_belongs_to_a_language(layout):
    assert layout.teacher("sl", "told") != layout.teacher("sw", "told")
    assert layout.teacher("sl", "ready") == layout.teacher("sw", "ready")
    # Its weights are its own, whole or cut.
    models = {layout.teacher("sl", name, v) for name in ("told", "retold") for v in (FULL, "few")}
    assert len(models) == 4


def test_a_pretrained_teacher_has_its_tokenizer_before_its_model(layout):
    assert layout.tokenizer("sl", "big", FULL) == Path("results/teachers/big/tokenizer")
    assert layout.teacher("sl", "big") == Path("results/teachers/big/model")


def test_one_multilingual_student_is_distilled_once_and_cut_for_each_language(layout):
    assert layout.model("many", "sl") == layout.model("many", "sw")
    assert layout.history("many-post", "sl") == layout.history("many-post", "sw")
    assert layout.model("many-post", "sl") != layout.model("many-post", "sw")


def test_vocabularies_are_cut_to_the_corpus_that_the_student_reads(layout):
    rules = layout.vocabulary_rules()
    assert ("both", "ready", "sentences") in rules  # many-pre
    assert ("sl", "ready", "few") in rules  # many-post and cut
    assert ("sl", "retold", "sentences") in rules
    assert len(rules) == len(set(rules))


def test_an_amplified_student_has_new_sub_words_that_its_teacher_lacks():
    config = yaml.safe_load(CONFIG)
    config["amplifications"] = {"longer": {"rule": "few"}, "whole": {}}
    for name in ("longer", "whole"):
        config["students"][name] = {
            "like": "full",
            "vocabulary": "amplified",
            "amplification": name,
        }
        config["experiment"]["systems"].append(name)
    layout = Layout(settings.complete(config))
    assert layout.vocabulary_of("longer") == "longer"
    assert (layout.taught_with("longer"), layout.taught_with("whole")) == ("few", FULL)
    assert layout.taught_with("pre") == layout.vocabulary_of("pre") == "sentences"
    model = layout.teacher("sl", "ready", "longer")
    assert model == layout.tokenizer("sl", "ready", "longer")
    assert model not in (layout.teacher("sl", "ready", "few"), layout.teacher("sl", "ready"))
    assert ("sl", "ready", "longer") in layout.vocabulary_rules()
    # Learnt from the tokenizer and the text: one place for a teacher and those conditioned from it.
    assert layout.prepared("sl", "retold", "longer") == layout.prepared("sl", "ready", "longer")


def test_a_student_that_is_not_trained_is_as_it_starts(layout):
    assert layout.model("scratch", "sl") == Path("results/students/scratch/sl/initial")
    assert layout.history("scratch", "sl") is None
    assert ("scratch", "sl") not in layout.released()


def test_a_student_is_made_for_its_own_languages_alone(layout):
    assert ("sl", "here") in layout.pairs()
    assert ("sw", "here") not in layout.pairs()
    assert ("names", "here", 1) in layout.runs()
    assert ("topics", "here", 1) not in layout.runs()
    assert ("here", "sw") not in layout.released()
    assert layout.history("here", "sw") is None
    # A list of one's own is not taken over by others.
    assert ("sw", "full") in layout.pairs()


def test_every_run_stands_once_and_every_folder_holds_one_thing(layout):
    runs = [layout.finetuned(*run) for run in layout.runs()]
    assert len(runs) == len(set(runs)) == 3 * (15 + 14)
    folders = {layout.model(system, language) for language, system in layout.pairs()}
    folders |= {layout.documents(corpus) for corpus in ("sl", "sw", "both")}
    folders |= {layout.prepared("sl", "ready", v) / "sequences" for v in (FULL, "few", "sentences")}
    for one, other in combinations(folders, 2):
        assert one not in other.parents and other not in one.parents


def test_the_results_can_stand_elsewhere(layout):
    elsewhere = Layout(layout.config, "/data/results")
    assert elsewhere.model("pre", "sl") == Path("/data") / layout.model("pre", "sl")
