"""Report what a reduced vocabulary keeps, and what it costs: coverage, [UNK], fertility.

Beside the selection stands a curve: what other numbers of tokens would cover, and cost.

eliquare vocabulary report --model TEACHER --reduced REDUCED --vocabulary vocabulary.csv
    --counts COUNTS --documents DOCUMENTS --tasks NAME=FILE --output vocabulary.json
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field
from tabulate import tabulate
from transformers import PreTrainedTokenizerFast

from eliquare.cli import Options
from eliquare.config.model import SelectionRule
from eliquare.corpus.counts import Counts, read_counts
from eliquare.corpus.documents import sample_texts
from eliquare.io import InputError, atomic_write, write_json
from eliquare.models.loading import load_config, load_fast_tokenizer, parameter_count, quiet
from eliquare.vocabulary import tokenizer as tokenizer_json
from eliquare.vocabulary.scripts import count_scripts
from eliquare.vocabulary.select import complete, ids_by_rule, read_vocabulary
from eliquare.vocabulary.verify import TaskFiles, compare, describe_findings

TEXTS_AT_ONCE = 64
# Both models are run on this many sentences of each text.
SENTENCES = 16
# The curve: shares of the text that the most frequent tokens cover, measured on so many documents.
CURVE = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)
CURVE_DOCUMENTS = 500
# Reasons of tokens that stay whatever the rule says.
ALWAYS = ("special", "character", "byte", "always_keep", "prompt")


class MeasuredTexts(Options):
    """The texts on which two tokenizers are compared."""

    documents: Path = Field(description="Documents folder of the corpus.")
    max_documents: int = Field(
        2000, ge=1, description="Documents to measure at most, spread over the corpus."
    )
    tasks: TaskFiles = Field([], description="Task files to measure, as NAME=FILE.")


class ReportOptions(MeasuredTexts):
    """Options of ``vocabulary report``."""

    model: Path = Field(description="Folder of the full model.")
    reduced: Path = Field(description="Folder of the reduced model.")
    vocabulary: Path = Field(description="Vocabulary file that it was reduced with.")
    counts: Path = Field(description="Counts folder of the corpus.")
    output: Path = Field(description="Report to write (JSON).")


def report(options: ReportOptions) -> None:
    """Measure, print tables and write the report.

    Raises:
        InputError: files do not belong together, or the verification finds a difference.
    """
    quiet()
    old, new = load_fast_tokenizer(options.model), load_fast_tokenizer(options.reduced)
    description = tokenizer_json.describe(old)
    tokens = tokenizer_json.list_tokens(description, old.name_or_path)
    selected = read_vocabulary(options.vocabulary, tokens)
    if len(selected) != len(new):
        raise InputError(
            f"{options.reduced}: has {len(new):,} tokens, {options.vocabulary} selects "
            f"{len(selected):,}; give the vocabulary file that the model was reduced with"
        )
    counts = read_counts(options.counts, tokens)
    specials = tokenizer_json.special_ids(options.model, description)
    verification = compare(
        options.model, options.reduced, options.documents, options.tasks, SENTENCES
    )
    sizes = {"before": options.model, "after": options.reduced}
    head = verification["mlm_head"]
    result = {
        "tokens": {
            "selected": len(selected),
            "of": len(tokens),
            "by_reason": dict(sorted(Counter(selected.values()).items())),
            "by_script": count_scripts(description, (tokens[index] for index in selected)),
        },
        "parameters": {
            name: parameter_count(load_config(folder), head) for name, folder in sizes.items()
        },
        "token_coverage": token_coverage(counts, selected, specials),
        "curve": size_curve(
            description,
            counts,
            selected,
            specials,
            list(sample_texts(options.documents, CURVE_DOCUMENTS)),
        ),
        "texts": measure_all({"before": old, "after": new}, options),
        "verification": verification,
    }
    with atomic_write(options.output) as partial:
        write_json(partial, result)
    print(summary(result))


def token_coverage(counts: Counts, selected: Iterable[int], specials: Iterable[int]) -> float:
    """Return the share of the occurrences of tokens, specials aside, that fall on selected ones."""
    occurrences = counts.occurrences.copy()
    occurrences[sorted(specials)] = 0
    return float(occurrences[sorted(selected)].sum() / max(occurrences.sum(), 1))


def size_curve(
    description: tokenizer_json.Description,
    counts: Counts,
    selected: Mapping[int, str],
    specials: set[int],
    texts: list[str],
) -> list[dict[str, Any]]:
    """Return what some numbers of tokens cover and cost, fewest first; the selection is ``chosen``.

    Each keeps what the selection keeps whatever its rule says, and the fewest most frequent tokens
    that cover a share of CURVE; fertility and unknown tokens are those of the tokenizer reduced to
    them, on ``texts``: the other words are spelled by shorter tokens.
    """
    always = {index: reason for index, reason in selected.items() if reason in ALWAYS}
    chosen = frozenset(selected)
    sizes = {chosen: True}
    for share in CURVE:
        frequent = ids_by_rule(SelectionRule(coverage=share), counts, specials)
        kept = complete(always | dict.fromkeys(frequent, "coverage"), description, specials)
        sizes.setdefault(frozenset(kept), False)
    points = []
    for ids, is_chosen in sorted(sizes.items(), key=lambda item: len(item[0])):
        reduced = tokenizer_json.reduce(description, sorted(ids))
        unknown = tokenizer_json.unknown_token(reduced)
        backend = tokenizer_json.backend_of(reduced)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token=unknown)
        measured = measure_texts({"reduced": tokenizer}, texts)["reduced"]
        coverage = token_coverage(counts, ids, specials)
        points.append({"tokens": len(ids), "coverage": coverage, **measured, "chosen": is_chosen})
    return points


def measure_all(
    tokenizers: Mapping[str, PreTrainedTokenizerFast], options: MeasuredTexts
) -> dict[str, Any]:
    """Measure tokenizers on the corpus and on each task."""
    from eliquare.evaluation.readers import read_texts

    texts = {"corpus": sample_texts(options.documents, options.max_documents)}
    texts |= {name: read_texts(file) for name, file in options.tasks}
    return {name: measure_texts(tokenizers, each) for name, each in texts.items()}


def measure_texts(
    tokenizers: Mapping[str, PreTrainedTokenizerFast], texts: Iterable[str]
) -> dict[str, Any]:
    """Measure tokenizers on texts: the share of [UNK] among tokens, and tokens per word.

    Words stand between spaces; in a language written without, they are phrases.
    """
    texts = iter(texts)
    number = words = 0
    unknown, tokens = Counter[str](), Counter[str]()
    while batch := list(islice(texts, TEXTS_AT_ONCE)):
        number += len(batch)
        words += sum(len(text.split()) for text in batch)
        for name, tokenizer in tokenizers.items():
            # The backend itself, which does not warn of texts longer than the model takes.
            backend = tokenizer.backend_tokenizer
            for encoding in backend.encode_batch(batch, add_special_tokens=False):
                tokens[name] += len(encoding.ids)
                unknown[name] += encoding.ids.count(tokenizer.unk_token_id)
    return {"texts": number, "words": words} | {
        name: {
            "unknown_share": unknown[name] / max(tokens[name], 1),
            "fertility": tokens[name] / max(words, 1),
        }
        for name in tokenizers
    }


def texts_table(texts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the measurements on each text as a table."""
    row = (
        "{words:,}|{before[unknown_share]:.3%}|{after[unknown_share]:.3%}|"
        "{before[fertility]:.2f}|{after[fertility]:.2f}"
    )
    rows = [[name, *row.format(**measured).split("|")] for name, measured in texts.items()]
    headers = ["text", "words", "[UNK] before", "after", "tokens per word before", "after"]
    alignment = ("left", *["right"] * 5)
    return str(tabulate(rows, headers, colalign=alignment, disable_numparse=True))


def curve_table(curve: Iterable[Mapping[str, Any]]) -> str:
    """Return the curve as a table."""
    row = "{tokens:,}|{coverage:.2%}|{unknown_share:.3%}|{fertility:.2f}"
    rows = [
        [*row.format(**point).split("|"), "chosen" if point["chosen"] else ""] for point in curve
    ]
    headers = ["tokens", "token coverage", "[UNK]", "tokens per word", ""]
    alignment = (*["right"] * 4, "left")
    return str(tabulate(rows, headers, colalign=alignment, disable_numparse=True))


def summary(result: Mapping[str, Any]) -> str:
    """Return the report for people."""
    tokens, parameters = result["tokens"], result["parameters"]
    reasons, scripts = (
        ", ".join(f"{number:,} {name}" for name, number in tokens[key].items())
        for key in ("by_reason", "by_script")
    )
    return f"""\
selected {tokens["selected"]:,} of {tokens["of"]:,} tokens ({reasons})
by script: {scripts}
token coverage: {result["token_coverage"]:.2%}
{curve_table(result["curve"])}
parameters: {parameters["before"]:,} before, {parameters["after"]:,} after
{describe_findings(result["verification"])}
{texts_table(result["texts"])}"""
