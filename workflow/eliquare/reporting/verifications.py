"""What comparing each cut model with the whole one found, whenever it was cut."""

from collections.abc import Iterator
from typing import Any

from eliquare import stage
from eliquare.reporting.formats import Table, number, text
from eliquare.reporting.results import Experiment

COUNTS = {
    "sentences_seen": "Sentences seen",
    "sentences_cut_alike": "Cut alike",
    "sentences_newly_with_unknown": "With a new [UNK]",
    "sentences_run": "Run",
}


def findings(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """The verification of each cut model, with its corpus, its label, and when it was cut.

    A vocabulary with new sub-words has none: it cuts other pieces, as it is meant to.
    """
    for report in experiment.vocabularies:
        if "verification" in report:
            yield {
                "corpus": report["corpus"],
                "model": experiment.label(report["teacher"]),
                "when": f"before distillation, by {report['rule']}",
                **report["verification"],
            }
    for student, language in experiment.layout.cut_afterwards():
        yield {
            "corpus": language,
            "model": experiment.label(student),
            "when": f"after distillation, by {experiment.entry(student)['rule']}",
            **stage.read_json(experiment.layout.verification(student, language)),
        }


def verifications(experiment: Experiment) -> Table:
    """For each cut model, that it is the same model: sentences compared, and what they showed."""
    cells, records = [], []
    for found in findings(experiment):
        counts = {key: sum(one[key] for one in found["texts"].values()) for key in COUNTS}
        logit = found["largest_relative_logit_difference"]
        records.append(
            {key: found[key] for key in ("corpus", "model", "when", "sub_words")}
            | counts
            | {"hidden_states": found["hidden_states"], "largest_logit_difference": logit}
        )
        cells.append(
            [
                text(experiment.language(found["corpus"])),
                text(found["model"]),
                text(found["when"]),
                number(found["sub_words"]),
                *(number(count) for count in counts.values()),
                text(found["hidden_states"]),
                number(logit, ".2g"),
            ]
        )
    header = ["Corpus", "Model", "Cut", "Sub-words compared", *COUNTS.values()]
    header += ["Hidden states", "Largest difference of a logit"]
    caption = "The cut models beside the whole ones: all rows, and sentences of corpus and tasks."
    notes = [
        "Sentences that need a dropped sub-word are not cut alike: the table of the vocabularies "
        "says what that costs. A new [UNK] is a character of a task that the corpus lacks.",
        "The difference of a logit is relative to the largest.",
    ]
    return Table("verifications", caption, header, cells, records, notes)
