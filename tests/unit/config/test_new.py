"""The configuration of a language code: printed, read back, and what is said of bad words."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from eliquare.config import catalogue, new
from eliquare.config.load import complete, dump
from eliquare.io import InputError
from eliquare.models.sentence import Sentence, write_sentence

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def refusal(words: dict) -> str:
    with pytest.raises(InputError) as caught:
        complete(words, "--config")
    return str(caught.value)


@pytest.mark.parametrize("code", ["cy", "no", "mr", "ltg", "be-tarask", "zh-min-nan", "qaa"])
def test_what_is_printed_is_what_the_code_runs(code):
    printed = complete(yaml.safe_load(new.text(code)))
    assert dump(printed) == dump(complete({"language": code}))
    assert printed.name == code
    assert list(printed.languages) == [code]
    assert printed.teachers["mbert"].revision == new.TEACHERS["mbert"].revision


def test_every_open_wikipedia_has_a_configuration_and_no_closed_one():
    for code, language in catalogue.languages().items():
        if language.is_closed:
            assert "is closed" in refusal({"language": code})
        else:
            assert complete(yaml.safe_load(new.text(code))).experiment.languages == [code]


def test_the_database_of_a_dump_is_named_where_the_code_does_not_say_it():
    assert complete({"language": "be-tarask"}).languages["be-tarask"].corpus.wiki == "be_x_oldwiki"


def test_the_comments_say_what_was_found():
    text = new.text("br")
    for part in (
        "91,466 articles on 2026-07-19, script Latn",
        "mBERT (104 languages): yes",
        "mmBERT: not known",
        "hours on one H100",
        "no part of speech: UD_Breton-KEB is 884 sentences",
        "br-ner: WikiANN, 1,000 / 1,000 / 1,000, terms not known",
        "no topics",
        "260 pairs, scored without training",
    ):
        assert part in text


def test_the_cost_is_that_of_the_steps_that_are_made():
    """No more than `max_steps` and no fewer than `min_steps`, however large the Wikipedia."""
    most, fewest = (
        re.search(r"([\d.]+) of them for the student", new.text(code))[1] for code in ("en", "ti")
    )
    bounds = [steps * 64 * 256 / 330_000 / 3600 for steps in (100_000, 3000)]
    assert [float(most), float(fewest)] == [round(bounds[0], 1), max(round(bounds[1], 1), 0.1)]
    assert "That is little text" in new.text("ti")
    assert "That is little text" not in new.text("en")


def test_a_language_that_no_teacher_knows_is_told_to_adapt_one():
    assert "adapt one first" in new.text("ltg")
    assert "adapt one first" not in new.text("cy")


@pytest.mark.parametrize(
    "model",
    ["Snowflake/snowflake-arctic-embed-m-v2.0", "lab/" + "a-long-name" * 7, "lab/Ünï_ço.de"],
)
def test_the_name_of_any_teacher_makes_a_configuration(model):
    settings = complete({"language": "zh-min-nan", "teacher": f"{model}@{'0' * 40}"})
    assert [entry.model for entry in settings.teachers.values()] == [model]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"language": "cy", "teacher": ""}, "teacher: nothing is given; leave it out"),
        ({"language": "cy", "date": " "}, "date: nothing is given; leave it out"),
        ({"language": "br", "languages": {"cy": {"corpus": {"source": "dump"}}}}, "give one of"),
    ],
)
def test_what_is_said_halfway_is_refused(words, said):
    assert said in refusal(words)


def test_a_smoke_run_may_be_refused_by_a_word():
    assert not complete({"language": "cy", "smoke": "false"}).smoke


def test_more_text_may_stand_beside_the_code():
    more = {"source": "text", "files": ["a.txt"]}
    words = {"language": "cy", "languages": {"cy-web": {"corpus": more}, "br": {"corpus": more}}}
    assert "languages has br" in refusal(words)
    settings = complete(words | {"experiment": {"languages": ["cy"]}})
    assert {*settings.languages} == {"cy", "cy-web", "br"}


@pytest.mark.parametrize("value", ["no", False])
def test_norwegian_is_no_falsehood(value):
    assert list(complete({"language": value}).languages) == ["no"]


def test_a_date_and_any_key_can_be_given_beside_the_code():
    words = {"language": "cy", "date": 20260101, "smoke": "true", "title": "Mine"}
    settings = complete(words | {"students": {"small": {"num_hidden_layers": 4}}})
    assert settings.languages["cy"].corpus.date == "20260101"
    assert (settings.smoke, settings.title) == (True, "Mine")
    assert settings.students["small"].num_hidden_layers == 4


def test_tasks_given_beside_the_code_change_the_automatic_ones():
    assert "cy-ner" not in complete({"language": "cy", "tasks": {"cy-ner": None}}).tasks


def test_a_teacher_is_a_hub_id_with_its_commit():
    settings = complete({"language": "cy", "teacher": f"jhu-clsp/mmBERT-base@{COMMIT}"})
    assert settings.teachers["mmbert-base"].model == "jhu-clsp/mmBERT-base"
    assert settings.teachers["mmbert-base"].revision == COMMIT
    assert settings.experiment.systems == ["mmbert-base", "small-mmbert-base"]


@pytest.mark.parametrize("word", ["xlmr", "FacebookAI/xlm-roberta-base"])
def test_a_known_teacher_is_pinned_by_itself(word):
    teacher = complete({"language": "cy", "teacher": word}).teachers["xlmr"]
    assert teacher.revision == new.TEACHERS["xlmr"].revision


@pytest.mark.parametrize("word", ["e5", "intfloat/multilingual-e5-small"])
def test_a_sentence_encoder_makes_sentence_encoders(word):
    settings = complete({"language": "cy", "teacher": word})
    teacher = settings.teachers["e5"]
    assert (teacher.pooling, teacher.normalize) == ("mean", True)
    # As training B of docs/science.md, but for the steps.
    (student,) = settings.students.values()
    assert student.initialization == "distilbert"
    assert student.training.disable_dropout
    assert teacher.prompts == {"query": "query: ", "passage": "passage: "}
    assert set(settings.students["small-e5"].objective.terms()) == {"sentence_cosine", "cosine"}
    assert settings.experiment.systems == ["e5", "small-e5"]
    # A run with mBERT is not replaced.
    assert (settings.name, complete({"language": "cy"}).name) == ("cy-e5", "cy")


def test_a_teacher_in_a_folder_says_how_deep_its_student_is(tmp_path):
    folder = tmp_path / "My Teacher"
    folder.mkdir()
    shape = {"model_type": "xlm-roberta", "num_hidden_layers": 4, "max_position_embeddings": 66}
    (folder / "config.json").write_text(json.dumps(shape), encoding="utf-8")
    settings = complete({"language": "qaa", "teacher": str(folder)})
    assert settings.teachers["my-teacher"].model == str(folder)
    assert settings.students["small-my-teacher"].num_hidden_layers == 2
    assert settings.sequences.max_length == 64
    assert settings.finetuning.max_length == settings.benchmark.sequence_length == 64
    assert settings.systems == {}
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 40}', encoding="utf-8")
    assert complete({"language": "qaa", "teacher": str(folder)}).sequences.max_length == 40


def test_a_folder_whose_number_of_layers_is_none_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"num_hidden_layers": "x"}', encoding="utf-8")
    said = refusal({"language": "cy", "teacher": str(tmp_path)})
    assert said.startswith(f"--config: teacher: {tmp_path}: no model folder (config.json has no")


def test_a_sentence_encoder_in_a_folder_says_how_it_pools(tmp_path):
    prompts = {"query": 'Ask "this" 😀: ', "search document": "Text:\t", "no": "{{ x }}\u2028"}
    shape = {"model_type": "bert", "num_hidden_layers": 4}
    (tmp_path / "config.json").write_text(json.dumps(shape), encoding="utf-8")
    write_sentence(tmp_path, Sentence("cls", False, prompts), 32)
    settings = complete({"language": "cy", "teacher": str(tmp_path)})
    (teacher,) = settings.teachers.values()
    assert (teacher.pooling, teacher.normalize, teacher.prompts) == ("cls", False, prompts)
    (student,) = settings.students.values()
    assert "sentence_cosine" in student.objective.terms()
    (tmp_path / "1_Pooling/config.json").unlink()
    assert refusal({"language": "cy", "teacher": str(tmp_path)}).startswith("--config: teacher: ")
    # An encoder that is not known here is one whose pooling may be named.
    (tmp_path / "modules.json").write_text('[{"type": "a.Dense", "path": "3"}]', encoding="utf-8")
    settings = complete({"language": "cy", "teacher": str(tmp_path)})
    assert [each.pooling for each in settings.teachers.values()] == [None]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"language": "welsh"}, "no Wikipedia of the code 'welsh'; did you mean 'cy' (Welsh)?"),
        ({"language": "cym"}, "did you mean 'cy' (Welsh)?"),
        ({"language": "Cymraeg"}, "did you mean 'cy' (Welsh)?"),
        ({"language": "nb"}, "did you mean 'no' (Norwegian)?"),
        ({"language": "pt-BR"}, "did you mean 'pt' (Portuguese)?"),
        ({"language": "cy.wikipedia.org"}, "did you mean 'cy' (Welsh)?"),
        ({"language": None}, "language: expected the code of a Wikipedia, as language=cy"),
        ({"language": "zh_yue"}, "did you mean 'zh-yue' (Cantonese)?"),
        ({"language": float("nan")}, "did you mean 'zh-min-nan' (Minnan)?"),
        ({"language": "xx"}, "the code 'xx'; it is the first part of the address"),
        ({"language": "qua"}, "there is no Wikipedia of the code 'qua'"),
        ({"language": "aa"}, "the Wikipedia of Afar (aa) is closed"),
        ({"language": "cy", "teacher": "mbrt"}, "teacher: 'mbrt' is no folder here"),
        ({"language": "cy", "teacher": "a/b@main"}, "teacher: 'a/b@main' is no folder here"),
        ({"language": "cy", "date": 2026}, "date: expected latest, or a date in quotes"),
    ],
)
def test_a_bad_word_is_one_line(words, message):
    line = refusal(words)
    assert line.startswith("--config: ")
    assert message in line
    assert "\n" not in line


def test_how_deep_a_model_of_the_hub_is_is_not_known():
    written = new.text("cy", "a/large@" + "a" * 40)
    assert "num_hidden_layers: 6   # half of 12; not known here is how many" in written
    assert "half the teacher's\n" in new.text("cy", "xlmr")


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    assert "no model folder" in refusal({"language": "cy", "teacher": str(tmp_path)})


def test_a_teacher_without_a_language_wants_one():
    assert "teacher: this is of a language alone" in refusal({"teacher": "xlmr"})


def test_another_host_of_dumps_comes_from_the_environment(monkeypatch):
    assert complete({"language": "cy"}).languages["cy"].corpus.mirror.startswith("https://dumps.")
    monkeypatch.setenv("ELIQUARE_DUMPS", "http://127.0.0.1:8765")
    assert complete({"language": "cy"}).languages["cy"].corpus.mirror == "http://127.0.0.1:8765"


def run(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-X", "importtime", "-m", "eliquare", "new", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_prints_it_without_torch():
    printed = run("no", "--date", "20260101")
    assert (printed.returncode, printed.stdout) == (0, new.text("no", date="20260101"))
    assert "transformers" not in printed.stderr
    assert "torch" not in printed.stderr


def test_the_command_refuses_a_bad_code():
    refused = run("welsh")
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "error: language: there is no Wikipedia of the code 'welsh'; did you" in refused.stderr
