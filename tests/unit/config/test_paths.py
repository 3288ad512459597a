"""Where everything is: what experiments share, and that no two things share a place."""

from itertools import combinations
from pathlib import Path

import pytest
import yaml

from eliquare.config.load import complete, load
from eliquare.paths import FULL, Paths

ROOT = Path(__file__).parents[3]

CONFIG = """
name: small
languages:
  sl: {corpus: {source: dump}}
  sw: {corpus: {source: dump}}
mixtures: {both: [sl, sw]}
teachers:
  big: {source: pretrain, corpus: both, training: {max_steps: 10}}
  ready: {source: folder, model: resources/models/ready}
  adapted: {source: adapt, teacher: ready, training: {max_steps: 10}}
  twice: {source: adapt, teacher: adapted, training: {max_steps: 10}}
  own: {source: adapt, teacher: adapted, extension: longer, training: {max_steps: 10}}
  own-twice: {source: adapt, teacher: own, training: {max_steps: 10}}
vocabularies: {sentences: {min_sentence_fraction: 0.0005}, few: {top_k: 100}}
extensions: {longer: {vocabulary: few}, added: {}}
students:
  full: {teacher: ready, training: {num_train_epochs: 1}, seeds: [1, 2]}
  post: {reduced_from: full, vocabulary: sentences}
  one: {extends: full, seeds: []}
  pre: {extends: one, vocabulary: sentences}
  of-adapted: {extends: one, teacher: adapted, teachers: {ready: 1, adapted: 2, twice: 1}}
  pre-of-twice: {extends: pre, teacher: twice}
  many: {extends: one, corpus: both}
  many-post: {reduced_from: many, vocabulary: few}
  many-pre: {extends: pre, corpus: both}
  scratch: {extends: one, initialization: blank, training: {num_train_epochs: null, max_steps: 0}}
  here: {extends: one, languages: [sl]}
  longer: {extends: one, extension: longer}
  added: {extends: one, extension: added}
  of-own: {extends: one, teacher: own-twice}
  pre-of-own: {extends: pre, teacher: own}
systems:
  reduced: {teacher: ready, vocabulary: few}
tasks:
  names: {language: sl, kind: ner, train: sl.txt}
  topics: {language: sw, kind: classification, train: sw.csv}
experiment:
  systems: [big, ready, adapted, twice, full, post, pre, of-adapted, pre-of-twice, many, many-post,
    many-pre, scratch, here, reduced, longer, added, of-own, pre-of-own]
"""


@pytest.fixture(scope="module")
def paths() -> Paths:
    return Paths(complete(yaml.safe_load(CONFIG)))


def test_only_what_people_read_has_the_experiment_in_its_path(paths):
    other = yaml.safe_load(CONFIG) | {"name": "another"}
    other["experiment"] = {"systems": ["full"], "languages": ["sl"], "seeds": [9]}
    other = Paths(complete(other))
    assert paths.experiment == Path("results/small")
    assert other.settings_file == Path("results/another/settings.json")
    assert paths.scores("sl", "pre") == Path("results/small/scores/sl/pre.json")
    for system in ("ready", "full", "post", "pre", "adapted"):
        assert paths.model(system, "sl") == other.model(system, "sl")
        assert paths.benchmark("sl", system) == other.benchmark("sl", system)
        assert paths.store == other.store
    assert paths.documents("sl") == other.documents("sl")


@pytest.mark.parametrize("name", ["electronics2023", "coling2022"])
def test_the_first_run_and_the_papers_share_corpora_and_teacher(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    first = Paths(load("config/config.yaml"))
    paper = Paths(load(f"config/experiments/{name}.yaml"))
    assert first.prepared("sl", "mbert", FULL) == paper.prepared("sl", "mbert", FULL)
    assert first.model("mbert", "sl") == paper.model("mbert", "sl")


def test_two_papers_with_other_budgets_make_nothing_in_one_place(monkeypatch):
    """coling2022 and electronics2023 state other budgets for students and for fine-tuning."""
    monkeypatch.chdir(ROOT)

    def made(name):
        paths = Paths(load(f"config/experiments/{name}.yaml"))
        students = [pair for pair in paths.pairs() if pair[1] in paths.settings.students]
        return {paths.model(system, language) for language, system in students} | {
            paths.store / task / system
            for language, system in paths.evaluations()
            for task in paths.tasks([language])
        }

    assert not made("coling2022") & made("electronics2023")


def test_a_student_reduced_afterwards_is_not_trained_again(paths):
    assert [paths.original_of(name) for name in ("post", "post@2")] == ["full", "full@2"]
    assert paths.origin("post", "sl") == paths.origin("full", "sl")
    assert paths.model("post", "sl") == Path("results/students/post/sl/model")
    assert paths.model("full@2", "sl") == Path("results/students/full@2/sl/model")
    assert paths.reductions() == [
        (name, language) for language in ("sl", "sw") for name in ("post", "post@2", "many-post")
    ]


def test_a_student_reduced_before_has_sequences_of_its_own(paths):
    assert paths.vocabulary_of("pre") == "sentences"
    assert paths.vocabulary_of("full") == paths.vocabulary_of("post") == FULL
    assert paths.prepared("sl", "ready", "sentences") != paths.prepared("sl", "ready", FULL)


def test_an_adapted_teacher_shares_tokenizer_and_sequences_with_its_root(paths):
    teachers = ("ready", "adapted", "twice")
    assert {paths.root_teacher(name) for name in teachers} == {"ready"}
    for vocabulary in (FULL, "sentences"):
        assert len({paths.prepared("sl", name, vocabulary) for name in teachers}) == 1
        assert len({paths.tokenizer("sl", name, vocabulary) for name in teachers}) == 1


def test_an_adapted_teacher_belongs_to_a_language(paths):
    assert paths.teacher("sl", "adapted") != paths.teacher("sw", "adapted")
    assert paths.teacher("sl", "ready") == paths.teacher("sw", "ready")
    # Its weights are its own, in full or reduced.
    models = {paths.teacher("sl", name, v) for name in ("adapted", "twice") for v in (FULL, "few")}
    assert len(models) == 4


def test_the_teachers_of_a_student_begin_with_its_own(paths):
    assert paths.teachers_of("of-adapted") == ["adapted", "ready", "twice"]
    own, *others = paths.teacher_models("of-adapted", "sl")
    assert own == paths.teacher("sl", "adapted")
    assert len(others) == 2
    assert paths.teachers_of("pre") == ["ready"]


def test_a_pretrained_teacher_has_its_tokenizer_before_its_model(paths):
    assert paths.tokenizer("sl", "big", FULL) == Path("results/teachers/big/tokenizer")
    assert paths.teacher("sl", "big") == Path("results/teachers/big/model")


def test_one_multilingual_student_is_distilled_once_and_reduced_for_each_language(paths):
    assert paths.model("many", "sl") == paths.model("many", "sw")
    assert paths.origin("many-post", "sl") == paths.origin("many-post", "sw") == ("many", "both")
    assert paths.model("many-post", "sl") != paths.model("many-post", "sw")
    assert paths.training_languages("many-post", "sl") == ["sl", "sw"]
    assert paths.training_languages("pre", "sl") == ["sl"]
    assert {"many", "many-post"} <= set(paths.distillations()["many", "both"])


def test_vocabularies_belong_to_the_corpus_that_the_student_reads(paths):
    found = paths.vocabularies()
    assert ("both", "ready", "sentences") in found  # many-pre
    assert ("sl", "ready", "few") in found  # many-post and reduced
    assert ("sl", "twice", "sentences") in found
    assert ("sl", "ready", "longer") in found
    assert len(found) == len(set(found))


def test_an_extended_student_has_tokens_that_its_teacher_lacks(paths):
    assert paths.vocabulary_of("longer") == "longer"
    vocabularies = [
        paths.extended_from(paths.vocabulary_of(name)) for name in ("longer", "added", "pre")
    ]
    assert vocabularies == ["few", FULL, "sentences"]
    model = paths.teacher("sl", "ready", "longer")
    assert model == paths.tokenizer("sl", "ready", "longer")
    assert model not in (paths.teacher("sl", "ready", "few"), paths.teacher("sl", "ready"))
    # Learnt from the tokenizer and the text: one place for a teacher and those adapted from it.
    assert paths.prepared("sl", "twice", "longer") == paths.prepared("sl", "ready", "longer")


def test_a_teacher_with_new_tokens_is_adapted_with_its_own_tokenizer(paths):
    assert paths.root_teacher("own-twice") == paths.root_teacher("own") == "own"
    assert paths.adapted_from("own-twice") == ["own-twice", "own", "adapted", "ready"]
    # It continues the teacher that got the tokens, and reads text that was tokenized with them.
    start = paths.start_of("sl", "own")
    assert start == paths.teacher("sl", "adapted", "longer")
    assert paths.start_of("sl", "own-twice") == paths.teacher("sl", "own")
    assert paths.tokenizer("sl", "own-twice", FULL) == paths.tokenizer("sl", "adapted", "longer")
    assert paths.prepared("sl", "own-twice", FULL) == paths.prepared("sl", "own", FULL)
    assert paths.prepared("sl", "own", FULL) != paths.prepared("sl", "ready", FULL)
    # It is reduced as any other.
    assert paths.tokenizer("sl", "own", "sentences") == paths.teacher("sl", "own", "sentences")
    assert {("sl", "adapted", "longer"), ("sl", "own", "sentences")} <= {*paths.vocabularies()}
    assert paths.start_of("sl", "adapted") == paths.teacher("sl", "ready")


def test_a_teacher_is_adapted_once_to_a_mixture_with_the_tokens_that_stay_for_it():
    raw = yaml.safe_load(CONFIG)
    head = {"source": "adapt", "teacher": "ready", "training": {"max_steps": 10}, "corpus": "both"}
    raw["teachers"] |= {"whole": head, "head": head | {"vocabulary": "few"}}
    raw["students"]["of-head"] = {"extends": "one", "teacher": "head"}
    raw["experiment"]["systems"].append("of-head")
    paths = Paths(complete(raw))
    assert paths.teacher("sl", "head") == paths.teacher("sw", "head")
    assert paths.teacher("sl", "head") == Path("results/corpora/both/head/full/model")
    assert paths.start_of("both", "head") == paths.teacher("both", "ready", "few")
    assert ("both", "ready", "few") in paths.vocabularies()
    # Every language is read with the tokens that stay for the mixture.
    assert paths.tokenizer("sl", "head", FULL) == paths.teacher("both", "ready", "few")
    assert paths.prepared("sl", "head", FULL) == Path("results/corpora/sl/head/full")
    assert paths.teacher_models("of-head", "sl") == [paths.teacher("both", "head")]
    # With all tokens, it shares the sequences of the teacher that it continues.
    assert paths.prepared("sl", "whole", FULL) == paths.prepared("sl", "ready", FULL)
    # For a language it can be reduced once more.
    assert paths.teacher("sl", "head", "sentences").parts[2] == "sl"


def test_a_student_that_is_not_trained_is_as_it_starts(paths):
    assert paths.model("scratch", "sl") == Path("results/students/scratch/sl/model")
    assert ("scratch", "sl") not in paths.distillations()
    assert ("scratch", "sl") not in paths.released()


def test_a_student_is_made_for_its_own_languages_alone(paths):
    assert ("sl", "here") in paths.pairs()
    assert ("sw", "here") not in paths.pairs()
    assert ("sw", "here") not in paths.evaluations()
    assert ("here", "sw") not in paths.released()
    assert ("here", "sw") not in paths.distillations()
    # A list of one's own is not taken over by others.
    assert ("sw", "full") in paths.pairs()


def test_one_seed_of_a_student_is_released(paths):
    assert ("full", "sl") in paths.released()
    assert ("full@2", "sl") not in paths.released()
    assert ("full@2", "sl") in paths.distillations()


def test_evaluations_are_the_systems_with_a_task(paths):
    assert paths.tasks(["sl"]) == ["names"]
    assert paths.evaluations() == paths.pairs()
    raw = yaml.safe_load(CONFIG)
    del raw["tasks"]["names"]
    without = Paths(complete(raw))
    assert without.evaluations() == without.pairs(["sw"])


def test_minimal_pairs_are_no_task_to_fine_tune_on():
    raw = yaml.safe_load(CONFIG)
    pairs = {"language": "sl", "kind": "minimal_pairs", "test": "p.tsv", "text_pair_column": "b"}
    raw["tasks"] = {"agreement": pairs}
    paths = Paths(complete(raw))
    assert paths.tasks() == paths.evaluations() == []
    assert paths.minimal_pairs() == paths.minimal_pairs(["sl"]) == ["agreement"]
    assert paths.minimal_pairs(["sw"]) == []


def test_pairs_for_embeddings_are_no_task_to_fine_tune_on():
    raw = yaml.safe_load(CONFIG)
    pairs = {"language": "sl", "test": "p.tsv"}
    raw["tasks"] = {
        "search": pairs | {"kind": "retrieval", "text_pair_column": "b"},
        "alike": pairs | {"kind": "similarity"},
        "topics": {"language": "sl", "kind": "classification", "train": "t.tsv"},
    }
    paths = Paths(complete(raw))
    assert paths.tasks() == paths.topics() == ["topics"]
    assert paths.embedded() == ["search", "alike", "topics"]
    assert paths.untrained(["sl"]) == ["search", "alike"]
    assert paths.intrinsic_inputs(["sl"]) == ["p.tsv", "t.tsv"]


def test_every_evaluation_is_there_once_and_every_folder_holds_one_thing(paths):
    systems = len(paths.settings.experiment.systems)
    assert len(paths.evaluations()) == len(set(paths.evaluations())) == systems + systems - 1
    folders = {paths.model(system, language) for language, system in paths.pairs()}
    folders |= {paths.documents(corpus) for corpus in ("sl", "sw", "both")}
    folders |= {paths.prepared("sl", "ready", v) / "sequences" for v in (FULL, "few", "sentences")}
    for one, other in combinations(folders, 2):
        assert one not in other.parents
        assert other not in one.parents


def test_the_results_can_be_elsewhere(paths):
    elsewhere = Paths(paths.settings, "/data/results")
    assert elsewhere.model("pre", "sl") == Path("/data") / paths.model("pre", "sl")


def test_a_dump_is_a_download_or_a_file():
    raw = yaml.safe_load(CONFIG)
    raw["languages"]["sw"]["corpus"]["file"] = "mine.xml.bz2"
    raw["languages"]["zh-yue"] = {"corpus": {"source": "dump", "date": "20260101"}}
    paths = Paths(complete(raw))
    assert paths.dump("sw") == Path("mine.xml.bz2")
    name = "zh_yuewiki-20260101-pages-articles.xml.bz2"
    assert paths.dump("zh-yue") == Path("resources/dumps") / name
