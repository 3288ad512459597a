"""The catalogue of public tasks: what it holds, what a language gets, how a configuration asks."""

import pytest
from pydantic import ValidationError

from eliquare.config import catalogue
from eliquare.config.load import complete
from eliquare.config.tasks import Task
from eliquare.io import InputError

ENTRIES = catalogue.entries()


def planned(*codes: str, tasks="auto", **corpus) -> dict:
    """Return a configuration with these languages and tasks."""
    source = corpus or {"source": "dump"}
    return {
        "name": "planned",
        "languages": {code: {"corpus": source} for code in codes},
        "teachers": {"given": {"source": "folder", "model": "given"}},
        "tasks": tasks,
        "experiment": {"systems": ["given"]},
    }


def refusal(config: dict) -> str:
    with pytest.raises(InputError) as caught:
        complete(config, "mine.yaml")
    return str(caught.value)


def test_every_entry_is_a_task_that_a_configuration_may_have():
    assert len(ENTRIES) > 700
    for entry in ENTRIES:
        try:
            task = Task.model_validate(entry.values(), strict=True)
        except ValidationError as error:
            pytest.fail(f"{entry.code} {entry.name}: {error}")
        assert task.fetched, entry


def test_the_entries_are_of_wikipedias_and_have_names_of_their_own():
    assert {entry.code for entry in ENTRIES} <= catalogue.languages().keys()
    names = [(entry.code, entry.name) for entry in ENTRIES]
    assert len(set(names)) == len(names)
    assert {entry.confidence for entry in ENTRIES} == {"read", "inferred"}
    assert all(entry.read_in for entry in ENTRIES)


def test_tasks_are_planned_for_all_wikipedias_at_once():
    codes = [code for code, each in catalogue.languages().items() if not each.is_closed]
    settings = complete(planned(*codes))
    counts = {code: 0 for code in codes}
    for task in settings.tasks.values():
        counts[task.language] += 1
    assert counts == {code: len(catalogue.entries_of(code)) for code in codes}
    assert len(codes) == 348
    assert sum(number > 0 for number in counts.values()) > 230


def test_the_largest_treebank_is_taken_and_its_release_pinned():
    found = [entry for entry in ENTRIES if entry.code == "sl" and entry.task == "upos"]
    assert [entry.name for entry in found] == ["UD_Slovenian-SSJ", "UD_Slovenian-SST"]
    assert catalogue.tasks_of("sl")["sl-upos"]["ud"]["release"] == "2.18"


def test_a_training_split_in_several_files_is_named_by_its_parts():
    german = catalogue.tasks_of("de")["de-upos"]["ud"]
    assert (german["prefix"], german["parts"]) == ("de_hdt", ["a-1", "a-2", "b-1", "b-2"])


def test_the_file_names_of_known_treebanks_need_not_be_written():
    assert catalogue.treebank_prefix("UD_Marathi-UFAL") == "mr_ufal"
    assert catalogue.treebank_prefix("UD_Nowhere-X") is None


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("br", "UD_Breton-KEB is 884 sentences to test on, with none to train on"),
        ("kk", "UD_Kazakh-KTB has 31 sentences to train on, fewer than 100"),
        ("fy", "UD_Frisian-Frysk is not released"),
        ("mi", "no treebank is known"),
        ("qaa", "no treebank is known"),
    ],
)
def test_a_language_without_a_training_treebank_is_told_why(code, reason):
    assert f"{code}-upos" not in catalogue.tasks_of(code)
    assert catalogue.without_part_of_speech(code) == reason


@pytest.mark.parametrize(
    ("code", "name"),
    [("sw", "MasakhaNER-2.0"), ("am", "MasakhaNER-1.0"), ("et", "estner-mini"), ("cy", "WikiANN")],
)
def test_names_that_people_annotated_are_taken_before_wikiann(code, name):
    assert catalogue.entries_of(code)["ner"].name == name


def test_withheld_text_and_sets_that_were_only_inferred_are_not_taken():
    names = {entry.name for entry in ENTRIES}
    assert not names & {"UD_Arabic-NYUAD", "UD_Japanese-BCCWJ", "UD_French-FTB"}
    assert catalogue.entries_of("hr")["ner"].name == "WikiANN"
    assert any(entry.name == "UNER-hr_set" for entry in ENTRIES)


def test_how_alike_texts_are_is_asked_where_a_language_has_a_set():
    settings = complete(planned("rw", "nl"))
    task = settings.tasks["rw-similarity"]
    assert (task.kind, task.text_column, task.label_column) == ("similarity", "Text", "Score")
    assert task.text_pair_column is None
    assert task.test.endswith("/test.tsv")
    assert "nl-similarity" not in settings.tasks
    named = complete(planned("nl") | {"tasks": {"auto": True, "nl-similarity": "STSb-Multi-MT"}})
    assert named.tasks["nl-similarity"].text_pair_column == "text_pair"


def test_minimal_pairs_are_taken_where_there_are_some():
    settings = complete(planned("cy", "ltg"))
    task = settings.tasks["cy-agreement"]
    assert (task.kind, task.hub.configuration, task.hub.test) == ("minimal_pairs", "cym", "train")
    assert task.test.endswith("/test.tsv")
    assert task.train is None
    assert task.text_pair_column == "text_pair"
    assert "ltg-agreement" not in settings.tasks


def test_codes_for_private_use_have_no_tasks():
    assert complete(planned("qaa", "qtz")).tasks == {}


def test_a_task_is_taken_out_put_in_replaced_and_changed_by_name():
    own = {"language": "sw", "kind": "classification", "train": "mine.tsv"}
    tasks = {
        "auto": True,
        "sw-topics": None,
        "sw-ner": "WikiANN",
        "sw-news": "MasakhaNEWS",
        "sw-intent": {"finetuning": {"num_train_epochs": 3}},
        "sw-sentiment": own,
    }
    settings = complete(planned("sw", tasks=tasks))
    assert sorted(settings.tasks) == ["sw-intent", "sw-ner", "sw-news", "sw-sentiment"]
    assert settings.tasks["sw-ner"].hub.dataset == "unimelb-nlp/wikiann"
    assert settings.tasks["sw-news"].label_column == "category"
    assert settings.tasks["sw-intent"].finetuning.num_train_epochs == 3
    assert settings.tasks["sw-intent"].hub.configuration == "sw"
    assert settings.tasks["sw-sentiment"].train == "mine.tsv"


def test_auto_of_a_file_that_is_extended_stays(tmp_path):
    base = tmp_path / "base.yaml"
    base.write_text("tasks: auto\n", encoding="utf-8")
    config = planned("cy", tasks={"cy-ner": None}) | {"extends": str(base)}
    assert sorted(complete(config).tasks) == ["cy-agreement", "cy-intent", "cy-topics", "cy-upos"]


def test_automatic_tasks_are_changed_on_the_command_line_where_all_is_text():
    assert "cy-ner" not in complete(planned("cy", tasks={"auto": "true", "cy-ner": "null"})).tasks
    assert complete(planned("cy", tasks={"auto": "false"})).tasks == {}


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"auto": True, "cy-nre": None}, "tasks.cy-nre: no automatic task has this name; did you"),
        ({"auto": "yes"}, "tasks.auto: expected true or false, found 'yes'"),
        ({"cy-x": "UD_Welsh-CGC"}, "tasks.cy-x: the catalogue has no 'UD_Welsh-CGC' in 'cy'; did"),
        ({"names": "WikiANN"}, "tasks.names: begin its name with the code of its language, as cy-"),
    ],
)
def test_mistakes_in_automatic_tasks_are_one_line(tasks, message):
    lines = refusal(planned("cy", tasks=tasks)).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"mine.yaml: {message}")


def test_a_bare_no_among_the_languages_is_reported_as_ever():
    config = planned("cy")
    config["languages"][False] = config["languages"].pop("cy")
    assert "languages" in refusal(config)


def test_text_that_is_not_compared_needs_no_automatic_tasks():
    config = planned("cy", "cy-web", source="text", files=["a.txt"])
    config["experiment"]["languages"] = ["cy"]
    assert {task.language for task in complete(config).tasks.values()} == {"cy"}


def test_automatic_tasks_of_an_unknown_language_are_refused():
    message = refusal(planned("welsh", source="text", files=["a.txt"]))
    assert message.startswith("mine.yaml: languages.welsh: tasks: auto: there is no Wikipedia")
    assert message.endswith("did you mean 'cy' (Welsh)?")
