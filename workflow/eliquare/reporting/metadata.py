"""What a hub reads of a model: the head of its card, by huggingface_hub's own classes.

Nothing is guessed: a base model, a data set or a licence is named where the hub knows it, and left
out where it does not. ``export push`` asks for the licence of a model whose teacher names none.
"""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from eliquare.config import sources
from eliquare.corpus.documents import read_lines
from eliquare.evaluation.data import WORD_KINDS
from eliquare.evaluation.hub import card_data
from eliquare.io import read_json
from eliquare.reporting.results import METRICS, Experiment

# Wikipedia codes that are no ISO 639 code, or that of another language.
ISO = {
    "als": "gsw",
    "bat-smg": "sgs",
    "be-tarask": "be",
    "be-x-old": "be",
    "cbk-zam": "cbk",
    "fiu-vro": "vro",
    "nds-nl": "nds",
    "no": "nb",
    "nrm": "nrf",
    "roa-rup": "rup",
    "simple": "en",
    "zh-classical": "lzh",
    "zh-min-nan": "nan",
    "zh-yue": "yue",
}
# The words of an example, and the names of metrics on the hub.
EXAMPLE_WORDS = (5, 20)
HUB_METRICS = {"entity_f1": "f1", "macro_f1": "f1"}


def iso(code: str) -> str | None:
    """Return the ISO 639 code of a Wikipedia code; None without one or in private use (qaa-qtz)."""
    code = ISO.get(code, code)
    return code if re.fullmatch(r"(?!q[a-t][a-z])[a-z]{2,3}", code) else None


def pipeline_of(kind: str) -> str:
    """Return what ``pipeline`` does with a model of a kind of task."""
    return "token-classification" if kind in WORD_KINDS else "text-classification"


def of_student(
    experiment: Experiment, student: str, language: str, tasks: list[str], mask: str | None
) -> str:
    """Return the metadata of a student as YAML, with its scores on tasks.

    ``mask`` is its mask token; without one it has no example.
    """
    encodes = experiment.settings.teachers[experiment.teacher(student)].pooling is not None
    sentence = example(experiment, language)
    widget: list[dict[str, Any]] = []
    if encodes and sentence:
        widget = [{"source_sentence": sentence, "sentences": [sentence]}]
    elif sentence and mask:
        words = sentence.split()
        words[len(words) // 2] = mask
        widget = [{"text": " ".join(words)}]
    return metadata(
        experiment,
        student,
        language,
        library_name="sentence-transformers" if encodes else "transformers",
        pipeline_tag="sentence-similarity" if encodes else "fill-mask",
        tags=["eliquare", "knowledge-distillation", "sentence-encoder" if encodes else "masked-lm"],
        eval_results=[each for task in tasks for each in evaluated(experiment, student, task)],
        widget=widget,
        model_name=f"{student}-{language}",
    )


def of_task(experiment: Experiment, student: str, language: str, task: str, made: Any) -> str:
    """Return the metadata of a fine-tuned model; ``made`` is what the export says of it."""
    sentence = example(experiment, language)
    entry = experiment.settings.tasks[task]
    scores = {made["metric"]: made["test"][made["metric"]]}
    return metadata(
        experiment,
        student,
        language,
        library_name="transformers",
        pipeline_tag=pipeline_of(entry.kind),
        tags=["eliquare", entry.kind],
        eval_results=[result(experiment, task, *score) for score in scores.items()],
        widget=[{"text": sentence}] if sentence and entry.kind != "pair" else [],
        model_name=f"{student}-{task}",
    )


def metadata(experiment: Experiment, student: str, language: str, **keys: Any) -> str:
    """Return metadata as YAML; what is empty is left out."""
    adapted = experiment.paths.adapted_from(experiment.teacher(student))
    root = experiment.settings.teachers[adapted[-1]]
    codes = experiment.paths.training_languages(student, language)
    corpora = [experiment.settings.languages[code].corpus for code in codes]
    named = {each.dataset for each in corpora if each.dataset and "/" in each.dataset}
    named |= {each.dataset_type for each in keys["eval_results"] if "/" in each.dataset_type}
    card = ModelCardData(
        language=[code] if (code := iso(language)) else None,
        license=license_of(experiment.paths.first_model(student)),
        base_model=root.model if root.source == "hub" else None,
        datasets=sorted(each for each in named if not Path(each).exists()) or None,
        **{key: value for key, value in keys.items() if value},
    )
    return str(card.to_yaml())


def evaluated(experiment: Experiment, student: str, task: str) -> list[EvalResult]:
    """Return the mean test score of a student on a task, if it has one."""
    score = experiment.score(student, task)
    return [result(experiment, task, score.metric, score.mean)] if score else []


def result(experiment: Experiment, task: str, metric: str, value: float) -> EvalResult:
    """Return a score on a task's test split in the hub's words; a data set of the hub by its id."""
    entry = experiment.settings.tasks[task]
    source = sources.source_of(entry)
    return EvalResult(
        task_type=pipeline_of(entry.kind),
        task_name=experiment.task_title(task),
        dataset_type=entry.hub.dataset if entry.hub else task,
        dataset_name=sources.named(source).strip() if source else task,
        dataset_config=entry.hub.configuration if entry.hub else None,
        dataset_revision=entry.hub.revision if entry.hub else None,
        dataset_split=entry.hub.test if entry.hub else "test",
        metric_type=HUB_METRICS.get(metric, metric),
        metric_name=METRICS.get(metric, metric),
        metric_value=round(value, 4),
    )


def license_of(folder: Path) -> str | None:
    """Return the licence that the card of a teacher names, None where it names none."""
    own = folder / "README.md"
    said = card_data(own).get("license") if own.exists() else None
    return said if isinstance(said, str) else None


def example(experiment: Experiment, language: str) -> str | None:
    """Return a held-out sentence of a language, None where there is no such text."""
    path = experiment.paths.held_out(language)
    least, most = EXAMPLE_WORDS
    lines = (line.decode(errors="replace") for line in read_lines(path)) if path.exists() else ()
    return next((line for line in lines if least <= len(line.split()) <= most), None)


def mask_of(model: Path) -> str | None:
    """Return the mask token of a model folder."""
    path = model / "tokenizer_config.json"
    found = read_json(path).get("mask_token") if path.exists() else None
    return found["content"] if isinstance(found, dict) else found
