"""The configuration of one language: ``eliquare new cy``, and ``snakemake --config language=cy``.

Both are the same text, filled from ``templates/language.yaml.j2`` and the catalogue.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from eliquare.config import catalogue
from eliquare.config.base import DATE, PATTERNS
from eliquare.config.catalogue import Entry, Language
from eliquare.config.sources import UNTRAINED
from eliquare.io import InputError

TEMPLATES = Path(__file__).with_name("templates")
# What stands in the template, and what the cost is reckoned from.
EPOCHS, SEEDS, MAX_TRAIN_SAMPLES, FINETUNING_EPOCHS = 10, 3, 20_000, 10
MIN_STEPS, MAX_STEPS, SEQUENCES_PER_STEP, MAX_LENGTH = 3000, 100_000, 64, 256
FEW_ARTICLES = 10_000  # less text than a student should be made of
# Guesses, within a factor of three: tokens of mBERT per article; kilobytes of its dump, its text
# and its sequences; gigabytes of all models.
TOKENS_PER_ARTICLE, KILOBYTES_PER_ARTICLE, MODELS_GIGABYTES = 300, 6, 6
# One H100: tokens of a distillation per second (docs/benchmarks.md), sentences of a fine-tuning (a
# guess).
TOKENS_PER_SECOND, SENTENCES_PER_SECOND = 330_000, 800
LONGEST_NAME = 40  # of a teacher, which is a part of other names
MANY = "its more than 1,800 languages are not listed here; see jhu-clsp/mmBERT-base on the hub"


class Teacher(NamedTuple):
    """A teacher as it stands in the configuration, and what of its shape is known."""

    name: str
    label: str
    source: str
    model: str
    revision: str | None = None
    layers: int | None = 6  # of the student: half the teacher's, where that is known
    length: int = 512  # tokens that it reads
    pooling: str = ""  # of a sentence encoder
    normalize: bool = True
    prompts: Mapping[str, str] = {}


TEACHERS = {
    "mbert": Teacher(
        "mbert",
        "mBERT",
        "hub",
        "google-bert/bert-base-multilingual-cased",
        "3f076fdb1ab68d5b2880cb87a0886f315b8146f8",
    ),
    "xlmr": Teacher(
        "xlmr",
        "XLM-R",
        "hub",
        "FacebookAI/xlm-roberta-base",
        "e73636d4f797dec63c3081bb6ed5c7b0bb3f2089",
    ),
    "e5": Teacher(
        "e5",
        "multilingual-e5-small",
        "hub",
        "intfloat/multilingual-e5-small",
        "614241f622f53c4eeff9890bdc4f31cfecc418b3",
        pooling="mean",
        prompts={"query": "query: ", "passage": "passage: "},
    ),
}
# The languages of teachers in the catalogue, in words.
KNOWN = {
    "mbert": "mBERT (104 languages)",
    "xlmr": "XLM-R and multilingual-e5-small (100 languages)",
}


def configuration(language: Any, teacher: Any = None, date: Any = None) -> dict[str, Any]:
    """Return the configuration that is printed for a language, read back.

    The values may be as YAML or Snakemake reads them bare: ``no`` as false, a date as a number.

    Raises:
        InputError: one of them cannot be used.
    """
    if language is None or not str(language).strip():
        raise InputError("language: expected the code of a Wikipedia, as language=cy; found none")
    code = "no" if language is False else str(language)
    for key, value in (("teacher", teacher), ("date", date)):
        if value is not None and not str(value).strip():
            raise InputError(f"{key}: nothing is given; leave it out for the default")
    written = text(code, None if teacher is None else str(teacher), str(date or "latest"))
    values: dict[str, Any] = yaml.safe_load(written)
    return values


def text(code: str, teacher: str | None = None, date: str = "latest") -> str:
    """Return the configuration of a language as commented YAML.

    Args:
        code: Of its Wikipedia, or one for private use (qaa to qtz).
        teacher: A hub id and its commit with @ between, or a folder; mBERT by default.
        date: Of the dump, or latest.

    Raises:
        InputError: one line: a code of no Wikipedia or of a closed one, no such teacher, no date.
    """
    import jinja2

    language = open_language(code)
    if not re.fullmatch(DATE, date):
        raise InputError(f"date: expected {PATTERNS[DATE]}, found {date!r}")
    chosen = teacher_of(teacher)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # Runs of one language with two teachers do not replace each other.
    suffix = "" if chosen == TEACHERS["mbert"] else f"-{chosen.name}"
    environment.filters["plain"] = plain
    environment.filters["flow"] = flow
    entries = catalogue.entries_of(code)
    return environment.get_template("language.yaml.j2").render(
        code=code,
        asked=teacher if suffix else None,
        suffix=suffix,
        student=f"small{suffix}",
        language=language,
        private=code not in catalogue.languages(),
        title=f"A small model of {language.name}",
        date=date,
        teacher=chosen,
        length=chosen.length,
        max_length=MAX_LENGTH,
        knowing=knowing(language),
        tasks=task_lines(code, entries),
        taken=next((f"{code}-{task}" for task in entries), None),
        cost=cost(language, entries, chosen),
        is_little=language.articles is not None and language.articles < FEW_ARTICLES,
        epochs=EPOCHS,
        steps=(MIN_STEPS, MAX_STEPS),
        sequences=SEQUENCES_PER_STEP,
        max_train_samples=MAX_TRAIN_SAMPLES,
    )


def open_language(code: str) -> Language:
    """Return the language of a code that has an open Wikipedia, or is for private use.

    Raises:
        InputError: the code is of no Wikipedia, or of a closed one.
    """
    language = catalogue.languages().get(code)
    if language is None and catalogue.is_known(code):
        return Language(code, code, "", "", "", None, "", False, "", (), "")
    if language is None:
        raise InputError(f"language: {catalogue.unknown(code)}")
    if language.is_closed:
        raise InputError(
            f"language: the Wikipedia of {language.name} ({code}) is closed; with text from "
            "elsewhere, write a configuration (docs/your-language.md)"
        )
    return language


def teacher_of(word: str | None) -> Teacher:
    """Return the teacher that a word of the command line names.

    Raises:
        InputError: the word is no folder, no known teacher, and no hub id with its commit.
    """
    if word is None:
        return TEACHERS["mbert"]
    if Path(word).is_dir():
        return folder_teacher(Path(word))
    model, _, revision = word.partition("@")
    for known in TEACHERS.values():
        if model in (known.name, known.model) and revision in ("", known.revision):
            return known
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?@[0-9a-f]{40}", word):
        xlmr = TEACHERS["xlmr"]
        raise InputError(
            f"teacher: {word!r} is no folder here; give a folder, {', '.join(TEACHERS)}, or a "
            f"hub id with its commit, as {xlmr.model}@{xlmr.revision}"
        )
    return Teacher(name_of(model), model.rpartition("/")[2], "hub", model, revision, layers=None)


def folder_teacher(folder: Path) -> Teacher:
    """Return the teacher in a folder; its student has half its layers.

    Raises:
        InputError: it holds no model, or files of a sentence encoder that cannot be read.
    """
    from eliquare.models.sentence import UnknownEncoder, read_sentence

    of_tokenizer = folder / "tokenizer_config.json"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tokenizer = json.loads(of_tokenizer.read_text("utf-8")) if of_tokenizer.exists() else {}
    except (OSError, ValueError) as error:
        raise InputError(f"teacher: {folder}: no model folder ({error})") from None
    if not (isinstance(config, dict) and isinstance(tokenizer, dict)):
        raise InputError(f"teacher: {folder}: no model folder (a file of it is no JSON mapping)")
    # DistilBERT calls them n_layers. RoBERTa counts two positions that are never read.
    layers = config.get("num_hidden_layers") or config.get("n_layers") or 12
    positions = config.get("max_position_embeddings") or 512
    if not (isinstance(layers, int) and isinstance(positions, int)):
        raise InputError(
            f"teacher: {folder}: no model folder (config.json has no numbers of layers, positions)"
        )
    if "roberta" in (config.get("model_type") or ""):
        positions -= 2
    positions = min(positions, tokenizer.get("model_max_length") or positions)
    name = folder.resolve().name
    teacher = Teacher(
        name_of(name), name, "folder", str(folder), layers=max(layers // 2, 1), length=positions
    )
    try:
        sentence = read_sentence(folder)
    except UnknownEncoder:
        # Whoever wants its encoder alone names a pooling.
        return teacher
    except InputError as error:
        raise InputError(f"teacher: {error}") from None
    if sentence is None:
        return teacher
    return teacher._replace(
        pooling=sentence.pooling,
        normalize=sentence.normalize,
        prompts=sentence.prompts,
        length=min(positions, sentence.max_length or positions),
    )


def name_of(model: str) -> str:
    """Return a name for the model in the configuration, which none of the template's has."""
    name = re.sub(r"[^a-z0-9_-]+", "-", model.rpartition("/")[2].lower()).strip("_-")
    name = name[:LONGEST_NAME].rstrip("_-")
    return name if name not in ("", "small", "distilmbert", "documents", *TEACHERS) else "teacher"


# What the comments say


def knowing(language: Language) -> list[str]:
    """Return a line for each well-known teacher: whether it was trained on the language."""
    lines = []
    for name, words in KNOWN.items():
        lines.append(f"{words}: {'yes' if name in language.teachers else 'no'}")
    if not language.teachers:
        lines.append("With neither, adapt one first (`source: adapt`), see docs/your-language.md.")
    return [*lines, f"mmBERT: not known; {MANY}"]


def task_lines(code: str, entries: Mapping[str, Entry]) -> list[str]:
    """Return a line for each sort of task: what it is, or that there is none."""
    lines = []
    for task, words in catalogue.AUTOMATIC.items():
        entry = entries.get(task)
        if entry is not None:
            sizes = (entry.train, entry.validation, entry.test)
            counts = " / ".join("?" if size is None else f"{size:,}" for size in sizes)
            if entry.kind in UNTRAINED:
                counts = f"{entry.test:,} pairs, scored without training"
            licence = entry.licence or "terms not known"
            lines.append(f"{code}-{task}: {entry.name}, {counts}, {licence}")
        elif task == "upos":
            lines.append(f"no {words}: {catalogue.without_part_of_speech(code)}")
        else:
            lines.append(f"no {words}")
    return lines


def cost(
    language: Language, entries: Mapping[str, Entry], teacher: Teacher
) -> dict[str, str] | None:
    """Return what a run costs, in words; None where the size of the text is not known."""
    if language.articles is None:
        return None
    of_step = SEQUENCES_PER_STEP * min(MAX_LENGTH, teacher.length)
    steps = EPOCHS * TOKENS_PER_ARTICLE * language.articles / of_step
    tokens = min(max(steps, MIN_STEPS), MAX_STEPS) * of_step
    training = tokens / TOKENS_PER_SECOND / 3600
    sentences = sum(min(each.train or 0, MAX_TRAIN_SAMPLES) for each in entries.values())
    systems = 3 if teacher.name == "mbert" else 2
    tuned = FINETUNING_EPOCHS * sentences * SEEDS * systems / SENTENCES_PER_SECOND / 3600
    gigabytes = MODELS_GIGABYTES + KILOBYTES_PER_ARTICLE * language.articles / 1e6
    return {
        "gpu_hours": hours(training + tuned),
        "training": hours(training),
        "gigabytes": f"{gigabytes:.0f}",
    }


def hours(number: float) -> str:
    """Return hours with two digits at most."""
    return f"{number:.0f}" if number >= 10 else f"{max(number, 0.1):.1f}"


def flow(value: Mapping[str, str]) -> str:
    """Return texts by name as YAML in one line, any character included."""
    written: str = yaml.safe_dump(
        dict(value), default_flow_style=True, default_style='"', width=math.inf, sort_keys=False
    )
    return written.strip()


def plain(value: str) -> str:
    """Return text as YAML reads it back, in quotes where it would be something else."""
    try:
        is_plain = yaml.safe_load(f"{{key: {value}}}") == {"key": value}
    except yaml.YAMLError:
        is_plain = False
    return value if is_plain else json.dumps(value, ensure_ascii=False)
