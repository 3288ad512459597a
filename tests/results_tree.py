"""A made-up tree of results as the stages leave it, for the tests of reporting."""

import json
import math
import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from eliquare.config.load import complete, dump
from eliquare.config.model import Configuration
from eliquare.evaluation.data import MAIN_METRIC
from eliquare.paths import Paths

DUMP = {"source": "dump", "date": "20230501"}
LANGUAGES = {"sl": {"name": "Slovene", "corpus": DUMP}, "sw": {"name": "Swahili", "corpus": DUMP}}
TASKS = {
    "sl-ner": ("sl", "ner", "Entities", {"language": "sl", "task": "1"}),
    "sl-upos": ("sl", "upos", "Part of speech", {"language": "sl", "task": "2"}),
    "sw-news": ("sw", "classification", "News", {"language": "sw", "task": "1"}),
    "sw-ner": ("sw", "ner", "Entities", {"language": "sw", "task": "2"}),
}
PAIRS = "sl-agreement"
BITS = {"mbert": 2.1, "sloberta": 1.9, "full": 2.5, "pre": 2.4, "post": 2.6, "scratch": 9.0}
STUDENTS = {
    "full": {
        "label": "Student, full vocabulary",
        "teacher": "mbert",
        "training": {"max_steps": 200},
    },
    "pre": {
        "extends": "full",
        "label": "Student, reduced before",
        "vocabulary": "share",
        "published_as": "eliquare_mbert_pre_vocabreduce",
    },
    "post": {
        "label": "Student, reduced after",
        "vocabulary": "share",
        "reduced_from": "full",
        "published_as": "eliquare_mbert_post_vocabreduce",
    },
    "scratch": {
        "extends": "pre",
        "label": "Student, not distilled",
        "published_as": None,
        "training": {"max_steps": 0},
    },
}
# The held-out text, in scripts of several kinds; the test splits of the tasks have these words too.
SENTENCES = [
    ("Reka teče skozi ", "dolino", " in se izliva v morje."),
    ("Mto unapita katika ", "bonde", " na kuingia baharini."),
    ("הנהר זורם דרך ", "העמק", " ונשפך אל הים."),
    ("नदी ", "घाटी", " से होकर बहती है और समुद्र में मिलती है।"),
    ("川は", "谷", "を流れて海に注ぐ。"),
    ("V mestu živi ", "veliko", " ljudi."),
    ("Leta 1991 je ", "država", " postala samostojna."),
    ("Watu wengi ", "wanaishi", " mjini."),
    ("Pesem je ", "napisala", " v mladosti."),
    ("Otoki ležijo ", "daleč", " od obale."),
]
LONG_WORDS = [
    "najneverjetnejšega", "wanaoshughulikia", "międzynarodowego", "Donaudampfschiff",
    "Minderjährigkeit", "अंतर्राष्ट्रीय", "האוניברסיטאות", "ノーベル物理学賞", "samostojnost",
    "mladostnik",
]  # fmt: skip
EXAMPLES = 40
UNSEEN = {"sl-upos": {"INTJ": 2, "SYM": 1}}
LEVEL = {"mbert": 0.93, "sloberta": 0.95, "full": 0.92, "pre": 0.94, "post": 0.91, "scratch": 0.7}
PARAMETERS = {"mbert": 177_974_523, "sloberta": 110_650_880, "full": 134_734_080}
VOCABULARY = {"mbert": 119_547, "sloberta": 32_005, "full": 119_547}


def settings(changes: dict[str, Any] | None = None) -> Configuration:
    """Return the complete configuration of the tree; ``changes`` are merged into its entries."""
    configuration: dict[str, Any] = {
        "name": "small",
        "title": "Slovene and Swahili from mBERT",
        "languages": LANGUAGES,
        "teachers": {
            "mbert": {
                "source": "hub",
                "model": "google-bert/bert-base-multilingual-cased",
                "revision": "3f076fdb1ab68d5b2880cb87a0886f315b8146f8",
                "label": "mBERT",
                "published_as": "mbert",
            }
        },
        "vocabularies": {"share": {"min_sentence_fraction": 0.0005}},
        "students": STUDENTS,
        "systems": {
            "sloberta": {
                "label": "SloBERTa",
                "model": "EMBEDDIA/sloberta",
                "revision": "0" * 40,
                "languages": ["sl"],
                "published_as": "upper_bound",
            }
        },
        "tasks": {
            name: {
                "language": language,
                "kind": kind,
                "label": label,
                "train": "train.txt",
                "published_as": published,
            }
            for name, (language, kind, label, published) in TASKS.items()
        }
        | {
            PAIRS: {
                "language": "sl",
                "kind": "minimal_pairs",
                "label": "Agreement",
                "test": "pairs.tsv",
                "text_column": "sen",
                "text_pair_column": "wrong_sen",
            }
        },
        "experiment": {
            "languages": list(LANGUAGES),
            "systems": list(LEVEL),
            "tasks": [*TASKS, PAIRS],
            "seeds": [0, 1, 2],
            "baseline": "mbert",
            "papers": [{"paper": "electronics2023", "table": "5"}],
        },
    }
    return complete(merged(configuration, changes or {}))


def merged(values: Any, changes: Any) -> Any:
    """Return mappings merged key by key."""
    if isinstance(values, dict) and isinstance(changes, dict):
        return values | {key: merged(values.get(key), change) for key, change in changes.items()}
    return changes


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def make(root: Path, changes: dict[str, Any] | None = None) -> Path:
    """Write a whole tree of results, and the data of its tasks; return the path of its settings."""
    files = {
        name: {
            split: str(
                root / f"tasks/{name}/{split}.{'tsv' if kind == 'classification' else 'txt'}"
            )
            for split in ("train", "test")
        }
        for name, (_, kind, *_) in TASKS.items()
    }
    values = settings(merged({"tasks": files}, changes or {}))
    return fill(
        root, values, {task: write_task(values, task) for task in Paths(values, root).tasks()}
    )


def fill(root: Path, values: Configuration, gold: dict[str, list[Any]] | None = None) -> Path:
    """Write the results of a complete configuration; return the path of its settings."""
    paths = Paths(values, root)
    write(paths.settings_file, dump(values))
    draw = random.Random(0)
    for language, system in paths.pairs():
        tasks = {task: scores(values, system, task, draw) for task in paths.tasks([language])}
        found = {"system": system, "language": language, "tasks": tasks}
        write(paths.scores(language, system), found)
        for task, seed in product(tasks, values.experiment.seeds):
            right = gold[task] if gold else right_answers(values.tasks[task].kind)
            path = paths.predictions(task, system, seed)
            write(path.with_name("runtime.json"), {"seconds": 10 + 100 * level(system)})
            answers = predictions(right, system, f"{task} {system} {seed}")
            path.write_text("".join(answers), encoding="utf-8")
        write(paths.benchmark(language, system), benchmark(system, language))
        write(paths.intrinsic(language, system), intrinsic(paths, language, system))
    for language in values.experiment.languages:
        write(paths.documents(language) / "report.json", documents(language))
    for corpus, teacher, name in paths.vocabularies():
        write(paths.vocabulary_report(corpus, teacher, name), vocabulary(corpus))
    for student, language in paths.reductions():
        write(paths.verification(student, language), verification(language))
    for student, corpus in paths.distillations():
        folder = paths.student(student, corpus)
        folder.mkdir(parents=True)
        (folder / "history.jsonl").write_text("".join(history(draw)))
        write(folder / "provenance.json", provenance())
    return paths.settings_file


def empty(root: Path, values: Configuration) -> Path:
    """Write results of which nothing could be fetched; return the path of the settings."""
    paths = Paths(values, root)
    write(paths.settings_file, dump(values))
    for language, system in paths.pairs():
        names = {"system": system, "language": language, "unavailable": "not run"}
        write(paths.scores(language, system), names | {"tasks": {}})
        write(paths.benchmark(language, system), names)
        write(paths.intrinsic(language, system), names)
    for language in values.experiment.languages:
        write(paths.documents(language) / "report.json", documents(language))
    return paths.settings_file


def level(system: str) -> float:
    """Return about the score of a system."""
    return LEVEL.get(system.partition("@")[0], 0.9)


def right_answers(kind: str) -> list[Any]:
    """Return the right answers of a task whose data are not written."""
    answers = {"upos": ["NOUN", "VERB"], "ner": ["O", "B-PER", "I-PER"]}.get(kind)
    return [answers or "ab"[number % 2] for number in range(30)]


def tokenizers(root: Path, values: Configuration) -> None:
    """Write tokenizers of all teachers and systems, and held-out text with long words."""
    paths = Paths(values, root)
    text = "Razumevanje mednarodnih odnosov, 2 הבינלאומיים\n"
    for language, system in paths.pairs():
        write_tokenizer(paths.model(system, language), system, text)
        for teacher in values.teachers:
            write_tokenizer(paths.teacher(language, teacher), teacher, text)
        paths.held_out(language).write_text(text, encoding="utf-8")


def write_tokenizer(folder: Path, system: str, text: str) -> None:
    """Write a WordPiece tokenizer of characters; a monolingual one has whole words."""
    letters = sorted(set(text) - set(" \n"))
    tokens = ["[UNK]", *letters, *(f"##{letter}" for letter in letters)]
    tokens += ["हिन्दी", "தமிழ்", "日本", "ひら", "русск"]
    if system == "sloberta":
        tokens += ["Razumevanje", "med", "##narod", "##nih"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    folder.mkdir(parents=True, exist_ok=True)
    model = WordPiece(vocabulary, unk_token="[UNK]", continuing_subword_prefix="##")
    Tokenizer(model).save(str(folder / "tokenizer.json"))


def write_task(values: Configuration, name: str) -> list[Any]:
    """Write the data of a task, the same in train and test; return the right answers."""
    task = values.tasks[name]
    draw = random.Random(name)
    labels = {"upos": ["NOUN", "VERB", "ADJ"], "ner": ["O", "B-PER", "B-LOC"]}
    gold: list[Any] = []
    lines = ["label\ttext"] if task.kind == "classification" else []
    for number in range(EXAMPLES):
        words = f"{''.join(SENTENCES[number % len(SENTENCES)])} {number}".split()
        if task.kind == "classification":
            gold.append("ab"[number % 2])
            lines.append(f"{gold[-1]}\t{' '.join(words)}")
            continue
        gold.append(draw.choices(labels[task.kind], k=len(words)))
        for place, (word, tag) in enumerate(zip(words, gold[-1], strict=True), 1):
            upos = f"{place}\t{word}\t_\t{tag}" + "\t_" * 6
            lines.append(upos if task.kind == "upos" else f"{word} {tag}")
        lines.append("")
    for file in filter(None, (task.train, task.test)):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return gold


def predictions(gold: list[Any], system: str, seed: str) -> Iterator[str]:
    """Yield the answers of a system as the stage ``finetune`` leaves them, wrong as often."""
    draw = random.Random(seed)
    labels = sorted({label for right in gold for label in right})

    def answer(right: str) -> str:
        return right if draw.random() < level(system) else draw.choice(labels)

    for number, right in enumerate(gold):
        given = answer(right) if isinstance(right, str) else list(map(answer, right))
        yield json.dumps({"id": number, "gold": right, "predicted": given}) + "\n"


def scores(values: Configuration, system: str, task: str, draw: random.Random) -> dict[str, Any]:
    """Return the scores of a system on a task, as the stage ``finetune`` writes them."""
    kind = values.tasks[task].kind
    seeds = {}
    for seed in values.experiment.seeds:
        score = round(level(system) + draw.gauss(0, 0.004), 6)
        test = {"accuracy": score, "macro_f1": round(score - 0.05, 6)}
        if kind == "ner":
            test = dict.fromkeys(("entity_f1", "entity_precision", "entity_recall"), score)
            test |= {f"{name}_strict": round(score - 0.02, 6) for name in list(test)}
        if kind == "classification":
            test = {"macro_f1": score, "accuracy": round(score + 0.01, 6)}
        validation = {name: value + 0.001 for name, value in test.items()}
        seeds[str(seed)] = {"test": test, "validation": validation, "best_epoch": 4, "steps": 90}
    return {
        "kind": kind,
        "metric": MAIN_METRIC[kind],
        "labels": ["a", "b"],
        "max_length": 128,
        "sizes": {"train": 900, "validation": 100, "test": EXAMPLES},
        "unknown_share": {"train": 0.0, "validation": 0.0, "test": 0.001},
        "long_share": {"train": 0.3, "validation": 0.2, "test": 0.1 + 0.2 * (system == "mbert")},
        "seen_share": {"validation": 0.0, "test": 0.018 * (task == "sw-news")},
        "unseen_labels": {"train": {}, "validation": {}, "test": UNSEEN.get(task, {})},
        "seeds": seeds,
    }


def embeddings(paths: Paths, language: str, level: float) -> dict[str, Any]:
    """Return the scores of frozen embeddings."""
    test = {"accuracy": level, "macro_f1": level - 0.2}
    labels, predicted = ["a", "b"] * 100, ["a"] + ["a", "b"] * 99 + ["b"]
    topics = {"texts_per_label": 8, "texts": [150, 100, 200], "validation": test, "test": test}
    topics |= {"labels": labels, "predicted": [predicted, labels] * 5}
    retrieval = {"pairs": 2, "documents": 2, "top_1": 0.5, "mean_reciprocal_rank": 0.75}
    retrieval |= {"ranks": [1, 2]}
    alike = {"pairs": 3, "spearman": level, "scores": [1, 2, 3], "cosines": [0.1, level, 0.8]}
    of_kind = {"retrieval": retrieval, "similarity": alike}
    kinds = {name: paths.settings.tasks[name].kind for name in paths.embedded([language])}
    return {
        "pooling": "mean",
        "said_by_model": False,
        "topics": dict.fromkeys(paths.topics([language]), topics),
        "retrieval": retrieval,
        "pairs": {name: of_kind[kind] for name, kind in kinds.items() if kind in of_kind},
    }


def intrinsic(paths: Paths, language: str, system: str) -> dict[str, Any]:
    """Return the scores without labels; the upper bound is a bare encoder."""
    name, _, seed = system.partition("@")
    bare = name == "sloberta"
    accuracy = None if bare else level(name)
    bits = None if bare else BITS.get(name, 2.2) + 0.1 * bool(seed)
    rates = {4_200: 1.2, 7_000: 0.88}  # of the mean
    texts = (
        [] if bits is None else [{"bits": n * r * bits, "characters": n} for n, r in rates.items()]
    )
    return {
        "system": system,
        "language": language,
        "sentences": 100,
        "words": 1_700,
        "characters": 11_200,
        "fertility": 1.5 if bare else 1.75,
        "unknown_share": 0.0004,
        "bits_per_character": bits,
        "texts": texts,
        "minimal_pairs": {
            task: {"pairs": 1_200, "accuracy": accuracy} for task in paths.minimal_pairs([language])
        },
        "embeddings": embeddings(paths, language, level(name)),
        "long_words": [
            {"word": word, "tokens": [word[:size], *word[size:]] if name != "mbert" else [*word]}
            for word in LONG_WORDS
            for size in (5 if bare else 3,)
        ],
        "masked_sentences": []
        if bare
        else [
            {"before": before, "word": word, "after": after}
            | {
                "answers": [
                    {"token": token, "probability": 0.4 / place}
                    for place, token in enumerate(["reka", word, "…ja", ",", "川"], 1)
                ]
                if number % 2
                else [{"token": word, "probability": 0.9}]
            }
            for number, (before, word, after) in enumerate(SENTENCES)
        ],
        "windowed_texts": 0,
        "remark": "no head for masked language modelling is stored" if bare else "",
    }


def benchmark(system: str, language: str) -> dict[str, Any]:
    system = system.partition("@")[0]
    total = PARAMETERS.get(system, 66_134_016)
    tokens = VOCABULARY.get(system, 30_050)
    encoder = 85_054_464 if system in ("mbert", "sloberta") else 42_527_232
    milliseconds = encoder / 1e6
    return {
        "system": system,
        "language": language,
        "parameters": {
            "total": total,
            "encoder": encoder,
            "head": 600_000 + tokens,
            "embeddings": total - encoder - 600_000 - tokens,
        },
        "tied_embeddings": True,
        "vocab_size": tokens,
        "weights_mb": round(total * 4 / 1e6, 2),
        "device": "A processor",
        "threads": 2,
        "precision": "float32",
        "sequence_length": 128,
        "repeats": 10,
        "peak_memory_method": "growth of the resident set's high-water mark (VmHWM)",
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
        "measurements": [
            {
                "batch_size": size,
                "part": part,
                "latency_ms": {
                    "median": milliseconds * size * slower,
                    "lower_quartile": milliseconds * size * slower * 0.97,
                    "upper_quartile": milliseconds * size * slower * 1.05,
                },
                "sequences_per_second": 1000 / milliseconds / slower,
                "tokens_per_second": 128_000 / milliseconds / slower,
                "peak_memory_mb": size * (3 if part == "encoder" else 3 + tokens / 2000),
            }
            for size in (1, 32)
            for part, slower in (("encoder", 1.0), ("encoder_and_mlm_head", 1.3))
        ],
    }


def documents(language: str) -> dict[str, Any]:
    return {
        "source": f"{language}wiki-20230501-pages-articles.xml.bz2",
        "pages": 444_123,
        "documents": 180_456,
        "dropped": {
            "redirect": 200_000,
            "other_namespace": 50_000,
            "short": 9_000,
            "list": 4_000,
            "exact_duplicate": 600,
            "near_duplicate": 67,
        },
        "characters": 412_345_678,
        "warnings": ["the dump is truncated: its 444,123 complete pages are used"],
    }


def vocabulary(language: str) -> dict[str, Any]:
    before = {"unknown_share": 0.0001, "fertility": 2.31}
    after = {"unknown_share": 0.0002, "fertility": 2.34}
    effect = {"words": 51_234, "before": before, "after": after}
    return {
        "tokens": {"selected": 30_050, "of": 119_547, "by_reason": {"special": 5}}
        | {"by_script": {"Latin": 27_000, "Common": 3_000, "Cyrillic": 50}},
        "token_coverage": 0.9987,
        "curve": [
            {"tokens": tokens, "coverage": share, "chosen": tokens == 30_050}
            | {"fertility": 2.31 + 1 - share, "unknown_share": 0.0002}
            for tokens, share in ((9_000, 0.9), (20_000, 0.99), (30_050, 0.9987), (60_000, 1.0))
        ],
        "parameters": {"before": 177_974_523, "after": 109_000_000},
        "texts": {"corpus": effect, f"{language}-ner": effect},
        "verification": verification(language),
    }


def verification(language: str) -> dict[str, Any]:
    counted = {
        "sentences_read": 200,
        "sentences_segmented_identically": 190,
        "sentences_compared": 16,
        "sentences_newly_unknown": 1,
    }
    return {
        "tokens": 30_050,
        "rows": "same",
        "mlm_head": True,
        "texts": {"corpus": counted, f"{language}-ner": counted},
        "segmentation": "same",
        "hidden_states": "equal bit for bit",
        "largest_relative_logit_difference": 1.2e-7,
        "logit_tolerance": 1e-5,
    }


def history(draw: random.Random) -> Iterator[str]:
    for step in range(1, 201):
        kl = 4 * math.exp(-step / 40) + 0.6 + draw.gauss(0, 0.05)
        mlm = 6 * math.exp(-step / 60) + 2.1 + draw.gauss(0, 0.08)
        row = {"step": step, "tokens": step * 4096, "seconds": step, "tokens_per_second": 4096}
        row |= {"learning_rate": 5e-4, "grad_norm": 1.0, "loss": 5 * kl + 2 * mlm + 0.3}
        yield json.dumps(row | {"kl": kl, "cosine": 0.3, "mlm": mlm}) + "\n"
        if step % 50 == 0:
            row = {"step": step, "eval_loss": 5 * kl, "eval_kl": kl + 0.05}
            yield json.dumps(row | {"eval_cosine": 0.3, "eval_mlm": mlm + 0.1}) + "\n"


def provenance() -> dict[str, Any]:
    return {
        "settings": {
            "max_steps": 200,
            "per_device_train_batch_size": 32,
            "learning_rate": 5e-4,
            "seed": 0,
        },
        "inputs": {"teacher": "0" * 64},
        "versions": {"eliquare": "0.1.0", "torch": "2.13.0", "python": "3.11.2"},
        "hardware": {"machine": "x86_64", "processor": "A processor"},
    }
