"""The configuration: what is filled in, and one line with file, key and mend for each mistake."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from eliquare import settings, settings_reference
from eliquare.layout import Layout
from eliquare.reporting import published
from eliquare.settings_entries import check_files
from eliquare.stage import InputError

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "config").rglob("*.yaml"))
KEYWORDS = {"type", "enum", "default", "description", "pattern", "items", "required", "properties"}
KEYWORDS |= {"additionalProperties", "propertyNames", "minProperties", "minItems", "uniqueItems"}
KEYWORDS |= {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "$ref"}

SMALL = """
name: small
languages:
  sl: {corpus: {source: text, files: [sl.txt]}}
  sw: {corpus: {source: dump}}
mixtures: {both: [sl, sw]}
teachers:
  big: {source: pretrain, corpus: both, layers: 4, hidden_size: 64, heads: 4, training: {steps: 10}}
vocabularies: {sentences: {share_of_sentences: 0.0005}}
students:
  full: {teacher: big, layers: 2, training: {epochs: 1}}
  pre: {like: full, vocabulary: pre, rule: sentences}
  post: {vocabulary: post, of: full, rule: sentences}
tasks:
  names: {language: sl, kind: ner, train: sl.txt}
  pairs: {language: sw, kind: pair, second_column: b, train: sw.csv, finetuning: {epochs: 3}}
finetuning: {epochs: 2}
experiment: {systems: [big, full, pre, post]}
"""


def small() -> dict:
    return yaml.safe_load(SMALL)


def changed(path: str, value) -> dict:
    """The small configuration with one key set; a value of ... removes it."""
    config = small()
    *parents, last = path.split("/")
    place = config
    for key in parents:
        place = place.setdefault(key, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return config


def error_of(config) -> str:
    with pytest.raises(InputError) as caught:
        settings.complete(config, "mine.yaml")
    message = str(caught.value)
    assert message.startswith("mine.yaml: ")
    assert "\n" not in message
    return message


MISTAKES = {
    # what is unknown, missing or of another type
    "unknown key": ("students/full/temprature", 2.0, "students.full", "'temprature'"),
    "misspelt key": ("students/full/vocabulry", "pre", "students.full", "mean 'vocabulary'"),
    "misspelt section": ("student", {}, "unknown key 'student'", "mean 'students'"),
    "missing key": ("languages/sl/corpus", ..., "languages.sl", "'corpus' is missing"),
    "missing section": ("teachers", ..., "'teachers' is missing"),
    "empty section": ("students", None, "students", "write {}"),
    "bad name": ("students/Big Model", {}, "students", "'Big Model'", "small letters"),
    "bad choice": ("tasks/names/kind", "pos", "tasks.names.kind", "upos, ner"),
    "text for a whole number": ("students/full/layers", "2", "layers", "write 2 without quotes"),
    "2.0 for a whole number": ("students/full/layers", 2.0, "layers", "a whole number, found 2.0"),
    "not finite": ("students/full/training/learning_rate", float("nan"), "learning_rate", "nan"),
    "out of bounds": ("masking/probability", 1.5, "masking.probability", "1.5"),
    "repeated": ("experiment/systems", ["full", "full"], "experiment.systems", "'full'", "twice"),
    "one language twice": ("mixtures/both", ["sl", "sl"], "mixtures.both", "'sl'", "twice"),
    "no hash": ("teachers/big/revision", "main", "teachers.big.revision", "'main'", "hexadecimal"),
    # how YAML reads
    "no as a code": ("languages/sl", ..., "languages", "the key no", '"no"'),
    "no in a list": ("mixtures/both", ["sl", False], "mixtures.both.1", "bare no", "in quotes"),
    "no as a value": ("tasks/names/language", False, "tasks.names.language", "bare no"),
    "5e-4": ("students/full/training/learning_rate", "5e-4", "learning_rate", "write 5.0e-4"),
    "1.0e3": ("students/full/training/learning_rate", "1.0e3", "learning_rate", "write 1.0e+3"),
    "date as a number": ("languages/sw/corpus/date", 20230501, "date", '"20230501"'),
    "date as a date": ("languages/sw/corpus/date", "2023-05-01", "corpus.date", '"20230501"'),
    # names
    "no such language": ("tasks/names/language", "sk", "tasks.names.language", "'sk'"),
    "no such member": ("mixtures/both", ["sl", "sk"], "mixtures.both", "'sk'"),
    "no such teacher": ("students/full/teacher", "bgi", "students.full.teacher", "mean 'big'"),
    "no such rule": ("students/pre/rule", "sentence", "students.pre.rule", "mean 'sentences'"),
    "no such system": ("experiment/systems", ["big", "ful"], "experiment.systems", "mean 'full'"),
    "no such task": ("experiment/tasks", ["name"], "experiment.tasks", "mean 'names'"),
    "no such place": ("students/full/languages", ["sk"], "students.full.languages", "'sk'"),
    "no such baseline": ("experiment/baseline", "mbert", "experiment.baseline", "'mbert'"),
    "released, not compared": ("experiment/release", ["big"], "experiment.release", "'big'"),
    "no such like": ("students/pre/like", "fulll", "students.pre.like", "mean 'full'"),
    "task elsewhere": (
        "experiment",
        {"systems": ["big"], "languages": ["sw"], "tasks": ["names"]},
        "experiment.tasks",
        "names",
        "'sl'",
    ),
    "two of a name": ("students/big", {"like": "full"}, "students.big", "a name of its own"),
    "mixture and language": ("mixtures/sl", ["sl", "sw"], "mixtures.sl", "another name"),
    "taken name": ("vocabularies/full", {"top_k": 9}, "vocabularies.full", "taken"),
    # what belongs together
    "steps and epochs": ("students/full/training/steps", 5, "students.full.training", "not both"),
    "no budget": ("students/full/training", {}, "students.full.training", "steps or epochs"),
    "like a circle": ("students/full/like", "pre", "like", "is like itself"),
    "post without of": ("students/post/of", ..., "students.post", "`of`"),
    "post of a cut one": ("students/post/of", "pre", "students.post.of", "no full vocabulary"),
    "amplified without its way": (
        "students/pre/vocabulary",
        "amplified",
        "students.pre",
        "needs `amplification`",
    ),
    "amplification of another": (
        "students/pre/amplification",
        "longer",
        "students.pre.amplification",
        "'longer'",
    ),
    "two names of one place": ("amplifications", {"sentences": {}}, "amplifications.sentences"),
    "add and gain": ("amplifications", {"longer": {"add": 5, "gain": 0.1}}, "longer", "not both"),
    "vectors unused": ("amplifications", {"longer": {"vectors": "v.txt"}}, "longer", "similar"),
    "pre without rule": ("students/pre/rule", ..., "students.pre", "needs `rule`"),
    "full with rule": ("students/full/rule", "sentences", "students.full.rule", "rule: null"),
    "of without post": ("students/pre/of", "full", "students.pre.of", "post alone"),
    "too many layers": ("students/full/layers", 5, "students.full.layers", "teacher has 4"),
    "2n-1 too deep": ("students/full/layers", 3, "students.full.initialisation", "layer 5"),
    "heads": ("students/full/heads", 5, "students.full.hidden_size", "no multiple of 5"),
    "another width": ("students/full/hidden_size", 32, "hidden_size", "initialisation: blank"),
    "too long": ("sequences/max_length", 1024, "teachers.big.max_positions", "1024"),
    "misspelt term": ("students/full/objective", {"hiden": 1}, "objective", "'hidden'"),
    "misspelt setting": ("students/full/objective", {"kl": {"direktion": "jsd"}}, "'direction'"),
    "misspelt preset": ("students/full/objective", {"preset": "tiny"}, "objective.preset", "bert"),
    "a teacher alone": ("students/full/teachers", {"a": 1}, "teachers", "at least 2"),
    "unknown teachers": ("students/full/teachers", {"a": 1, "b": 2}, "students.full.teachers"),
    "nothing to learn": ("students/full/objective", dict.fromkeys(("kl", "cosine", "mlm"), 0), "0"),
    "two rules": ("vocabularies/sentences/top_k", 5, "vocabularies.sentences", "one of"),
    "no rule": ("vocabularies/sentences", {"always_keep": "k.txt"}, "vocabularies.sentences"),
    "no files": ("languages/sl/corpus/files", ..., "languages.sl.corpus", "'files'"),
    "files of a dump": ("languages/sw/corpus/files", ["a"], "languages.sw.corpus.files", "remove"),
    "no revision": ("teachers/hub", {"source": "hub", "model": "a/b"}, "teachers.hub", "revision"),
    "unpinned system": ("systems/hub", {"model": "a/b"}, "systems.hub", "revision"),
    "system of nothing": ("systems/cut", {"teacher": "big"}, "systems.cut", "teacher and rule"),
    "pair without column": ("tasks/pairs/second_column", ..., "tasks.pairs", "second_column"),
    "column without pair": ("tasks/names/second_column", "b", "tasks.names.second_column", "pair"),
    "masks": ("masking", {"mask": 0.8, "random": 0.3}, "masking", "more than 1"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_one_line_with_file_key_and_mend(name):
    path, value, *said = MISTAKES[name]
    config = changed(path, value)
    if name == "no as a code":
        config = yaml.safe_load(SMALL.replace("  sl: {corpus", "  no: {corpus"))
    if name == "date as a date":
        config = yaml.safe_load(SMALL.replace("{source: dump}", "{source: dump, date: 2023-05-01}"))
    message = error_of(config)
    for part in said:
        assert part in message


def test_a_teacher_conditioned_from_itself_is_refused():
    config = small()
    for one, other in (("a", "b"), ("b", "a")):
        config["teachers"][one] = {
            "source": "condition",
            "teacher": other,
            "training": {"steps": 1},
        }
    assert "conditioned from itself" in error_of(config)


def test_a_student_without_training_cannot_be_cut_afterwards():
    config = changed("students/full/training", {"steps": 0})
    assert "students.post.of: full is not trained" in error_of(config)


def test_what_is_left_out_is_filled_in():
    config = settings.complete(small())
    assert config["languages"]["sl"]["name"] == "sl"
    kl = {"weight": 5.0, "direction": "forward", "temperature": 2.0, "positions": "all"}
    assert config["students"]["full"]["objective"] == {
        "preset": "none", "kl": kl, "mlm": {"weight": 2.0}, "cosine": {"weight": 1.0},
    }  # fmt: skip
    assert config["students"]["full"]["training"]["steps"] is None
    assert config["experiment"]["languages"] == ["sl", "sw"]
    assert config["experiment"]["tasks"] == ["names", "pairs"]
    assert config["experiment"]["seeds"] == [1, 2, 3]
    # A task's own setting, then the experiment's, then the default.
    assert config["tasks"]["pairs"]["finetuning"]["epochs"] == 3
    assert config["tasks"]["names"]["finetuning"]["epochs"] == 2
    assert config["tasks"]["names"]["finetuning"]["learning_rate"] == 5.0e-5


@pytest.mark.parametrize("objective", [{"hidden": 1}, {"preset": "minilm"}])
def test_a_student_with_new_subwords_has_terms_that_can_be_compared(objective):
    config = changed("amplifications", {"longer": {}})
    config["students"]["new"] = {
        "like": "full",
        "vocabulary": "amplified",
        "amplification": "longer",
    }
    settings.complete(copy.deepcopy(config))
    config["students"]["new"]["objective"] = objective
    message = error_of(config)
    assert "students.new.objective." in message and "its terms are kl, cosine and mlm" in message


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("teachers.mbert", "layers", 3),
        ("languages.sl.corpus", "max_documents", 5),
        ("students.post", "layers", 3),
    ],
)
def test_a_key_that_nothing_reads_is_refused(part, key, value):
    config = small()
    entry = config
    for name in part.split("."):
        entry = entry.setdefault(name, {})
    if part == "teachers.mbert":
        entry |= {"source": "hub", "model": "some/model", "revision": "0" * 40}
    if part == "students.post":
        entry |= {"vocabulary": "post", "of": "full", "rule": next(iter(config["vocabularies"]))}
    entry[key] = value
    with pytest.raises(InputError, match=f"{part}.{key}: "):
        settings.complete(config)


def test_a_task_file_that_is_not_there_is_named():
    config = settings.complete(small())
    with pytest.raises(InputError, match=r"tasks\..*train.* is not there"):
        check_files(config, "test")


def test_an_experiment_has_a_folder_of_its_own():
    with pytest.raises(InputError, match="name: students"):
        settings.complete(small() | {"name": "students"})


def test_like_takes_over_all_but_the_names():
    config = small()
    config["students"]["full"] |= {"label": "Full", "published_as": "eliquare_mbert"}
    config["students"]["cool"] = {"like": "pre", "objective": {"temperature": 1.0}}
    students = settings.complete(config)["students"]
    assert students["cool"]["objective"]["kl"]["temperature"] == 1.0
    assert students["cool"]["objective"]["kl"]["weight"] == 5.0
    assert (students["cool"]["vocabulary"], students["cool"]["layers"]) == ("pre", 2)
    assert (students["cool"]["label"], students["cool"]["published_as"]) == ("cool", None)


def shuffled(value, draw):
    if isinstance(value, dict):
        keys = draw(st.permutations(list(value)))
        return {key: shuffled(value[key], draw) for key in keys}
    return value


@hypothesis_settings(max_examples=30, deadline=None)
@given(st.data())
def test_the_order_of_keys_does_not_matter(data):
    config = shuffled(small(), data.draw)
    # Two lists follow the order of keys by intent: the defaults of languages and of tasks.
    config["experiment"] |= {"languages": ["sl", "sw"], "tasks": ["names", "pairs"]}
    expected = small()
    expected["experiment"] |= {"languages": ["sl", "sw"], "tasks": ["names", "pairs"]}
    assert settings.complete(config) == settings.complete(expected)


def test_the_given_configuration_is_left_as_it_is():
    config = small()
    before = copy.deepcopy(config)
    settings.complete(config)
    assert config == before


def test_extends_adds_and_overrides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(SMALL)
    Path("mine.yaml").write_text(
        "extends: base.yaml\nname: mine\nstudents: {full: {layers: 1}}\nexperiment: {seeds: [7]}\n"
    )
    config = settings.load("mine.yaml")
    assert config["name"] == "mine"
    assert config["students"]["full"]["layers"] == config["students"]["pre"]["layers"] == 1
    assert config["experiment"]["seeds"] == [7]
    assert config["experiment"]["systems"] == ["big", "full", "pre", "post"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends: nowhere.yaml\n", "mine.yaml: extends: nowhere.yaml does not exist"),
        ("extends: mine.yaml\n", "mine.yaml: extends: mine.yaml extends itself"),
        ("extends: 5\n", "mine.yaml: extends: expected the path"),
        ("name: [a\n", "mine.yaml, line 2: not YAML"),
        ("- a\n", "mine.yaml: expected keys and values"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        settings.load("mine.yaml")
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_are_complete(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    settings.load(path)


def distillations(config: dict) -> int:
    layout = Layout(config)
    histories = {
        layout.history(system, language)
        for language, system in layout.pairs()
        if system in config["students"]
    }
    return len(histories - {None})


@pytest.mark.parametrize(
    ("name", "expected"), [("coling2022", 6), ("electronics2023", 34), ("cruz2024", 7)]
)
def test_experiments_distil_as_often_as_their_papers(name, expected, monkeypatch):
    """electronics2023: 6 from mBERT, 6 from XLM-R, 6 cut before, 16 of the two ablations."""
    monkeypatch.chdir(ROOT)
    assert distillations(settings.load(f"config/experiments/{name}.yaml")) == expected


def printed(config: dict) -> set[tuple[str, str, str, str]]:
    """(table, system, language, task) of each published number that the experiment repeats."""
    systems = config["teachers"] | config["students"] | config["systems"]
    rows, tables = published.read(), config["experiment"]["papers"]
    found = set()
    for task, system in {(task, system) for task, system, _ in Layout(config).runs()}:
        language, names = config["tasks"][task]["language"], config["tasks"][task]["published_as"]
        for row in published.find(
            rows, systems[system]["published_as"], language, names["task"], tables
        ):
            found.add((row.table, row.system, row.language, row.task))
    return found


@pytest.mark.parametrize(
    ("name", "elsewhere"),
    [
        ("coling2022", {"upper_bound"}),
        # These two rows print the students cut before once more, with the numbers of Table 5.
        ("electronics2023", {"upper_bound", "loss_ce5_cos1_mlm2", "tau_2.0"}),
        # And these the numbers of dbert_base in Table 2.
        ("cruz2024", {"roberta_tagalog", "dbert", "dbert_at_100pct"}),
    ],
)
def test_experiments_stand_beside_every_published_score(name, elsewhere, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = settings.load(f"config/experiments/{name}.yaml")
    tables = [(table["paper"], table["table"]) for table in config["experiment"]["papers"]]
    scores = {
        (row.table, row.system, row.language, row.task)
        for row in published.read()
        if (row.paper, row.table) in tables and row.task_kind not in published.NOT_SCORES
    }
    assert {system for _, system, _, _ in scores - printed(config)} == elsewhere


def test_the_first_run_shares_its_recipes_with_the_experiment(monkeypatch):
    monkeypatch.chdir(ROOT)
    first = settings.load("config/config.yaml")
    experiment = settings.load("config/experiments/electronics2023.yaml")
    for section in ("teachers", "students", "systems", "vocabularies", "tasks"):
        for name, entry in first[section].items():
            same = {key: value for key, value in entry.items() if key not in ("label", "languages")}
            other = experiment[section][name]
            assert same == {key: other[key] for key in other if key not in ("label", "languages")}
    assert first["sequences"] == experiment["sequences"]
    assert first["masking"] == experiment["masking"]


def parts(schema: dict):
    yield schema
    for key in ("properties", "$defs"):
        for inner in schema.get(key, {}).values():
            yield from parts(inner)
    for key in ("additionalProperties", "items"):
        if isinstance(schema.get(key), dict):
            yield from parts(schema[key])


def test_every_key_of_the_schema_is_described_in_full():
    schema = settings.schema()
    settings.Validator.check_schema(schema)
    for part in parts(schema):
        # An unquoted comma cuts a description and makes a keyword of its rest.
        assert set(part) <= KEYWORDS | {"$schema", "$defs", "title"}
        for key, inner in part.get("properties", {}).items():
            assert settings.resolved(inner, schema).get("description"), key


def test_the_committed_reference_is_what_the_schema_says():
    committed = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    assert committed == settings_reference.reference(), (
        "write it anew: python -m eliquare.settings_reference > config/README.md"
    )


def test_the_example_in_the_reference_works():
    example = settings_reference.HEAD.read_text(encoding="utf-8").split("```yaml\n")[1]
    settings.complete(yaml.safe_load(example.split("```")[0]))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("epochs: 1", "epochs: 1, learning_rate: 5e-4", "write 5.0e-4"),
        ("  sl: {corpus", "  no: {corpus", 'write it in quotes: "no"'),
    ],
)
def test_snakemake_ends_in_one_line(tmp_path, old, new, said):
    file = tmp_path / "bad.yaml"
    file.write_text(SMALL.replace(old, new))
    command = [sys.executable, "-m", "snakemake", "-n", "--configfile", str(file)]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    errors = [line for line in run.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert said in errors[0]
    assert str(file) in errors[0]
    assert "Traceback" not in run.stderr
