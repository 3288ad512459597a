"""What is tried before its training: with its own settings, once for each of them."""

import copy
import shlex

import pytest
import yaml

from eliquare import settings, smoke
from eliquare.commands import Commands
from eliquare.layout import Layout
from eliquare.trials import LONG, Trials, is_long

CONFIG = """
name: small
languages:
  sl: {corpus: {source: dump}}
  sw: {corpus: {source: dump}}
teachers:
  ready: {source: folder, model: resources/models/ready}
  told: {source: condition, teacher: ready, training: {steps: 10}}
  retold: {source: condition, teacher: told, training: {steps: 20}}
  new: {source: pretrain, corpus: sl, training: {steps: 30}}
vocabularies: {sentences: {share_of_sentences: 0.0005}, both: {top_k: 100, languages: [sw]}}
amplifications: {longer: {rule: sentences, gain: 1.0e-5}}
students:
  full: {teacher: ready, training: {steps: 100, batch_size: 8}}
  pre: {like: full, vocabulary: pre, rule: sentences}
  of-both: {like: pre, rule: both}
  of-retold: {like: full, teacher: retold}
  of-new: {like: full, teacher: new}
  of-two: {like: full, teachers: {ready: 1, told: 2}}
  amplified: {like: full, vocabulary: amplified, amplification: longer}
experiment: {systems: [full], languages: [sl]}
"""


def trials(config: dict | None = None) -> Trials:
    layout = Layout(settings.complete(copy.deepcopy(config or yaml.safe_load(CONFIG))))
    return Trials(layout, Commands(layout))


def read(options: str):
    """What eliquare.smoke reads of the options of a trial."""
    words = ["--documents", "d", "--teacher", "t", "--output", "o"]
    return smoke.parser().parse_args(words + shlex.split(options))


def test_a_trial_has_the_name_of_what_decides_its_student():
    config = yaml.safe_load(CONFIG)
    name = trials().of_student("full", "sl")
    for change, same in (
        ({"checkpoint_minutes": 3, "threads": 7}, True),
        ({"steps": 101}, False),
    ):
        other = copy.deepcopy(config)
        other["students"]["full"]["training"] |= change
        assert (trials(other).of_student("full", "sl") == name) == same
    assert trials().of_student("full", "sw") != name


@pytest.mark.parametrize(("student", "rule"), [("full", ""), ("pre", "sentences")])
def test_a_recipe_is_tried_with_its_cut(student, rule):
    made = trials()
    found = read(made.student_options(student, "sl"))
    assert found.vocabulary_options == (made.commands.vocabulary(rule) if rule else "")
    assert found.distillation_options == made.commands.distillation(student, "sl")
    assert found.amplification_options == found.pretraining_options == ""


def test_a_cut_for_several_languages_is_tried_on_its_own():
    assert "--languages" not in trials().student_options("of-both", "sl")


def test_new_sub_words_are_tried_after_their_cut():
    found = read(trials().student_options("amplified", "sl"))
    assert "--gain 1e-05" in found.amplification_options
    assert "--share-of-sentences 0.0005" in found.vocabulary_options


def test_each_training_of_a_teacher_is_tried_in_its_order():
    found = read(trials().student_options("of-retold", "sl"))
    assert ["--steps 10" in words for words in found.conditioning_options] == [True, False]
    assert "--steps 20" in found.conditioning_options[1]
    assert "--steps 30" in read(trials().student_options("of-new", "sl")).pretraining_options
    alone = read(trials().teacher_options("retold", "sl"))
    assert alone.conditioning_options == found.conditioning_options
    assert alone.distillation_options == ""


def test_of_several_teachers_the_first_is_tried():
    made = trials()
    assert "--teacher-weight" in made.commands.distillation("of-two", "sl")
    assert "--teacher" not in read(made.student_options("of-two", "sl")).distillation_options


def test_a_teacher_starts_from_what_is_there_before_it():
    made = trials()
    assert made.start("new", "sl") == made.layout.tokenizer("sl", "new", "full")
    assert made.start_option("new") == "tokenizer"
    assert made.start("retold", "sl") == made.layout.teacher("sl", "ready")
    assert made.start_option("retold") == "teacher"


def test_long_is_counted_in_sequences():
    short = {"epochs": None, "steps": 100, "batch_size": 10, "accumulation": 1, "gpus": 1}
    assert not is_long(short)
    assert is_long(short | {"accumulation": LONG // 1000})
    assert is_long(short | {"accumulation": LONG // 2000, "gpus": 2})
    assert is_long(short | {"epochs": 1, "steps": None})


def test_what_was_trained_without_a_trial_stays():
    made = trials()
    long = {"epochs": 1}
    short = {"epochs": None, "steps": 1, "batch_size": 1, "accumulation": 1, "gpus": 1}
    tried = ["results/corpora/sl/documents", str(made.of_student("full", "sl"))]
    untried = tried[:1]
    params = [repr("--a 1"), "3"]
    # Nothing is there yet.
    assert made.waits(long, "--a 1", None, None)
    assert not made.waits(short, "--a 1", None, None)
    # There, by the same options: as it was.
    assert not made.waits(long, "--a 1", untried, params)
    assert made.waits(short, "--a 1", tried, params)
    # There, by others: as if it were new.
    assert made.waits(long, "--a 2", untried, params)
    assert not made.waits(short, "--a 2", tried, params)
