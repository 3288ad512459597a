"""What a reduced vocabulary keeps, and what it costs the text: coverage, [UNK], longer words.

python -m eliquare.vocabulary.report --model TEACHER --reduced REDUCED --kept kept.csv
    --counts COUNTS --documents DOCUMENTS --task NAME=FILE --output report.json
"""

import argparse
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from fontTools import unicodedata
from tabulate import tabulate
from transformers import AutoConfig

from eliquare import stage
from eliquare.stage import InputError
from eliquare.vocabulary import tokenizer as surgery
from eliquare.vocabulary.counting import read_counts
from eliquare.vocabulary.kept import read_kept
from eliquare.vocabulary.options import add_measured_texts
from eliquare.vocabulary.sample import sample_texts
from eliquare.vocabulary.texts import task_texts
from eliquare.vocabulary.verify import describe, verify
from eliquare.vocabulary.weights import parameter_count

VERSION = 2

BATCH = 64
DOCUMENTS = 2000
SENTENCES = 16


def measure_texts(tokenizers: dict[str, Any], texts: Iterable[str]) -> dict[str, Any]:
    """Words of the texts, and for each tokenizer the share of [UNK] among its sub-words and the
    mean number of sub-words in a word.

    Words are what stands between spaces; in a language written without, whole phrases.
    """
    texts = iter(texts)
    number = words = 0
    unknown, pieces = Counter(), Counter()
    while batch := list(islice(texts, BATCH)):
        number += len(batch)
        words += sum(len(text.split()) for text in batch)
        for name, tokenizer in tokenizers.items():
            # The backend itself, which does not warn of texts longer than the model takes.
            for encoding in tokenizer.backend_tokenizer.encode_batch(
                batch, add_special_tokens=False
            ):
                pieces[name] += len(encoding.ids)
                unknown[name] += encoding.ids.count(tokenizer.unk_token_id)
    return {"texts": number, "words": words} | {
        name: {
            "unknown_share": unknown[name] / max(pieces[name], 1),
            "sub_words_per_word": pieces[name] / max(words, 1),
        }
        for name in tokenizers
    }


def coverage(model: str | Path, counts_folder: str | Path, kept: Iterable[int]) -> float:
    """Share of the occurrences of sub-words, specials aside, that fall on kept ones."""
    description = surgery.read_description(model)
    counts = read_counts(counts_folder, surgery.list_subwords(description))
    occurrences = counts.occurrences.copy()
    occurrences[sorted(surgery.special_ids(model, description))] = 0
    return float(occurrences[sorted(kept)].sum() / max(occurrences.sum(), 1))


def by_script(
    description: surgery.Description, subwords: list[str], kept: Iterable[int]
) -> dict[str, int]:
    """How many kept sub-words there are of each script, most first.

    A sub-word is of the script of its first letter that has one; the others are "Common" (digits,
    marks, and bytes that are no whole letter).
    """
    counts: Counter[str] = Counter()
    for identifier in kept:
        codes = map(unicodedata.script, surgery.as_text(description, subwords[identifier]))
        code = next((c for c in codes if c not in ("Zyyy", "Zinh", "Zzzz")), "Zyyy")
        counts[unicodedata.script_name(code)] += 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def report(
    model: str | Path,
    reduced: str | Path,
    kept_file: str | Path,
    counts: str | Path,
    documents: str | Path,
    tasks: dict[str, str],
    sample: int = DOCUMENTS,
) -> dict[str, Any]:
    """Everything that the report holds; see the module's head. Raises InputError for bad input."""
    old = surgery.load_tokenizer(model)
    tokenizers = {"before": old, "after": surgery.load_tokenizer(reduced)}
    subwords = surgery.list_subwords(surgery.describe(old))
    kept = read_kept(kept_file, subwords)
    if len(kept) != len(tokenizers["after"]):
        raise InputError(
            f"{reduced}: has {len(tokenizers['after']):,} sub-words, {kept_file} keeps "
            f"{len(kept):,}; give the kept file that the model was cut with"
        )
    texts = {"corpus": measure_texts(tokenizers, sample_texts(documents, sample))}
    texts |= {name: measure_texts(tokenizers, task_texts(path)) for name, path in tasks.items()}
    return {
        "sub_words": {
            "kept": len(kept),
            "of": len(subwords),
            "by_reason": dict(sorted(Counter(kept.values()).items())),
            "by_script": by_script(surgery.describe(old), subwords, kept),
        },
        "parameters": {
            "before": parameter_count(AutoConfig.from_pretrained(model)),
            "after": parameter_count(AutoConfig.from_pretrained(reduced)),
        },
        "share_of_running_text": coverage(model, counts, kept),
        "texts": texts,
        "verification": verify(model, reduced, documents, tasks, SENTENCES),
    }


def table_of_texts(texts: dict[str, dict[str, Any]]) -> str:
    """What was measured on each text, for people."""
    rows = [
        [
            name,
            f"{row['words']:,}",
            *(f"{row[when]['unknown_share']:.3%}" for when in ("before", "after")),
            *(f"{row[when]['sub_words_per_word']:.2f}" for when in ("before", "after")),
        ]
        for name, row in texts.items()
    ]
    headers = ["text", "words", "[UNK] before", "after", "sub-words per word before", "after"]
    return tabulate(rows, headers, colalign=("left", *["right"] * 5), disable_numparse=True)


def table(result: dict[str, Any]) -> str:
    """The report for people."""
    subwords, parameters = result["sub_words"], result["parameters"]
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in subwords["by_reason"].items())
    scripts = ", ".join(f"{n:,} {script}" for script, n in subwords["by_script"].items())
    return "\n".join(
        [
            f"kept {subwords['kept']:,} of {subwords['of']:,} sub-words ({reasons})",
            f"by script: {scripts}",
            f"they make up {result['share_of_running_text']:.2%} of running text",
            f"parameters: {parameters['before']:,} before, {parameters['after']:,} after",
            describe(result["verification"]),
            table_of_texts(result["texts"]),
        ]
    )


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    result = argparse.ArgumentParser(
        prog="python -m eliquare.vocabulary.report", description=__doc__.split("\n\n")[0]
    )
    result.add_argument("--model", required=True, help="folder of the whole model")
    result.add_argument("--reduced", required=True, help="folder of the cut model")
    result.add_argument("--kept", required=True, help="kept file that it was cut with")
    result.add_argument("--counts", required=True, help="counts folder of the corpus")
    add_measured_texts(result, DOCUMENTS)
    result.add_argument("--output", required=True, help="report to write (JSON)")
    return result


def run(arguments: argparse.Namespace) -> None:
    """Measure, print a table and write the report."""
    result = report(
        arguments.model,
        arguments.reduced,
        arguments.kept,
        arguments.counts,
        arguments.documents,
        dict(arguments.task),
        arguments.sample,
    )
    with stage.whole_file(arguments.output) as beside:
        stage.write_json(beside, result)
    print(table(result))


if __name__ == "__main__":
    stage.main(parser(), run)
