"""A made-up results tree in the form that the stages leave, for the tests of the reporting room."""

import json
import math
import random
from pathlib import Path

from eliquare.settings import complete

DUMP = {"source": "dump", "date": "20230501"}
LANGUAGES = {"sl": {"name": "Slovene", "corpus": DUMP}, "sw": {"name": "Swahili", "corpus": DUMP}}
KINDS = {"upos": "accuracy", "ner": "entity_f1", "classification": "macro_f1"}
TASKS = {
    "sl-ner": ("sl", "ner", "Entities", {"language": "sl", "task": "1"}),
    "sl-upos": ("sl", "upos", "Part of speech", {"language": "sl", "task": "2"}),
    "sw-news": ("sw", "classification", "News", {"language": "sw", "task": "1"}),
    "sw-ner": ("sw", "ner", "Entities", {"language": "sw", "task": "2"}),
}
STUDENTS = {
    "full": {"label": "Student, full vocabulary", "teacher": "mbert", "training": {"steps": 200}},
    "pre": {
        "like": "full",
        "label": "Student, cut before",
        "vocabulary": "pre",
        "rule": "share",
        "published_as": "eliquare_mbert_pre_vocabreduce",
    },
    "post": {
        "like": "full",
        "label": "Student, cut after",
        "vocabulary": "post",
        "rule": "share",
        "of": "full",
        "published_as": "eliquare_mbert_post_vocabreduce",
    },
    "scratch": {"like": "pre", "label": "Student, not distilled", "training": {"steps": 0}},
}
LEVEL = {"mbert": 0.93, "sloberta": 0.95, "full": 0.92, "pre": 0.94, "post": 0.91, "scratch": 0.7}
PARAMETERS = {"mbert": 177_974_523, "sloberta": 110_650_880, "full": 134_734_080}
VOCABULARY = {"mbert": 119_547, "sloberta": 32_005, "full": 119_547}


def settings(seeds=(0, 1, 2), baseline="mbert") -> dict:
    """The completed configuration of the tree."""
    configuration = {
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
        "vocabularies": {"share": {"share_of_sentences": 0.0005}},
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
        },
        "experiment": {
            "languages": list(LANGUAGES),
            "systems": list(LEVEL),
            "tasks": list(TASKS),
            "seeds": list(seeds),
            "baseline": baseline,
            "papers": [{"paper": "electronics2023", "table": "5"}],
        },
    }
    return complete(configuration)


def write(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def make(root: Path, **changes) -> Path:
    """Write a whole tree; returns the path of its settings."""
    values = settings(**changes)
    write(root / "small" / "settings.json", values)
    draw = random.Random(0)
    for name, (language, kind, _, _) in TASKS.items():
        for system, level in LEVEL.items():
            if system == "sloberta" and language != "sl":
                continue
            for seed in values["experiment"]["seeds"]:
                score = round(level + draw.gauss(0, 0.004), 6)
                test = {"accuracy": score, "macro_f1": round(score - 0.05, 6)}
                if kind == "ner":
                    test = {"entity_f1": score, "precision": score, "recall": score}
                if kind == "classification":
                    test = {"macro_f1": score, "accuracy": round(score + 0.01, 6)}
                metrics = {
                    "task": name,
                    "kind": kind,
                    "language": language,
                    "system": system,
                    "seed": seed,
                    "metric": KINDS[kind],
                    "test": test,
                    "validation": test,
                    "best_epoch": 4,
                    "epochs": 5,
                    "sizes": {"train": 900, "validation": 100, "test": 200},
                    "labels": ["a", "b"],
                    "unknown_share": {"train": 0.0, "validation": 0.0, "test": 0.001},
                }
                folder = root / "finetuned" / name / system / f"seed-{seed}"
                write(folder / "metrics.json", metrics)
    for language in LANGUAGES:
        for system in LEVEL:
            if system != "sloberta" or language == "sl":
                write(root / "measured" / language / f"{system}.json", measured(system, language))
        corpus = root / "corpora" / language
        write(corpus / "documents" / "report.json", documents(language))
        write(corpus / "mbert" / "share" / "vocabulary.json", vocabulary(language))
        write(root / "students" / "post" / language / "verification.json", verification(language))
        for student in ("full", "pre"):
            folder = root / "students" / student / language / "distilled"
            folder.mkdir(parents=True)
            (folder / "history.jsonl").write_text("".join(history(draw)))
            write(folder / "provenance.json", provenance())
    return root / "small" / "settings.json"


def measured(system: str, language: str) -> dict:
    total = PARAMETERS.get(system, 66_134_016)
    subwords = VOCABULARY.get(system, 30_050)
    encoder = 85_054_464 if system in ("mbert", "sloberta") else 42_527_232
    milliseconds = encoder / 1e6
    return {
        "system": system,
        "language": language,
        "parameters": {
            "total": total,
            "encoder": encoder,
            "head": 600_000 + subwords,
            "embeddings": total - encoder - 600_000 - subwords,
        },
        "tied_embeddings": True,
        "vocabulary_size": subwords,
        "weights_mb": round(total * 4 / 1e6, 2),
        "device": "A processor",
        "threads": 2,
        "precision": "float32",
        "length": 128,
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
                "peak_memory_mb": size * (3 if part == "encoder" else 3 + subwords / 2000),
            }
            for size in (1, 32)
            for part, slower in (("encoder", 1.0), ("encoder_and_mlm_head", 1.3))
        ],
    }


def documents(language: str) -> dict:
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
        "warnings": ["the dump was cut: its 444,123 whole pages are used"],
    }


def vocabulary(language: str) -> dict:
    before = {"unknown_share": 0.0001, "sub_words_per_word": 2.31}
    after = {"unknown_share": 0.0002, "sub_words_per_word": 2.34}
    measured = {"words": 51_234, "before": before, "after": after}
    return {
        "sub_words": {"kept": 30_050, "of": 119_547, "by_reason": {"special": 5}},
        "share_of_running_text": 0.9987,
        "parameters": {"before": 177_974_523, "after": 109_000_000},
        "texts": {"corpus": measured, f"{language}-ner": measured},
        "verification": verification(language),
    }


def verification(language: str) -> dict:
    counted = {
        "sentences_seen": 200,
        "sentences_cut_alike": 190,
        "sentences_run": 16,
        "sentences_newly_with_unknown": 1,
    }
    return {
        "sub_words": 30_050,
        "rows": "same",
        "mlm_head": True,
        "texts": {"corpus": counted, f"{language}-ner": counted},
        "pieces": "same",
        "hidden_states": "equal bit for bit",
        "largest_relative_logit_difference": 1.2e-7,
        "logit_tolerance": 1e-5,
    }


def history(draw: random.Random):
    for step in range(1, 201):
        kl = 4 * math.exp(-step / 40) + 0.6 + draw.gauss(0, 0.05)
        mlm = 6 * math.exp(-step / 60) + 2.1 + draw.gauss(0, 0.08)
        row = {"step": step, "tokens": step * 4096, "seconds": step, "tokens_per_second": 4096}
        row |= {"learning_rate": 5e-4, "gradient_norm": 1.0, "loss": 5 * kl + 2 * mlm + 0.3}
        yield json.dumps(row | {"kl": kl, "cosine": 0.3, "mlm": mlm}) + "\n"
        if step % 50 == 0:
            row = {"step": step, "validation_loss": 5 * kl, "validation_kl": kl + 0.05}
            yield json.dumps(row | {"validation_cosine": 0.3, "validation_mlm": mlm + 0.1}) + "\n"


def provenance() -> dict:
    return {
        "settings": {"steps": 200, "batch_size": 32, "learning_rate": 5e-4, "seed": 0},
        "inputs": {"teacher": "0" * 64},
        "versions": {"eliquare": "0.1.0", "torch": "2.13.0", "python": "3.11.2"},
        "hardware": {"machine": "x86_64", "processor": "A processor"},
    }
