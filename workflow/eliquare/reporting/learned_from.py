"""What the students learned from: the corpora, and the vocabularies cut to them."""

from eliquare.reporting.formats import Table, number, text
from eliquare.reporting.results import Experiment


def corpora(experiment: Experiment) -> Table:
    """Pages, documents kept, and what was dropped and why."""
    reasons = list(
        dict.fromkeys(
            reason for report in experiment.corpora.values() for reason in report.get("dropped", {})
        )
    )
    records = [
        {
            "corpus": name,
            "source": report.get("source"),
            "pages": report.get("pages"),
            "documents": report.get("documents"),
            "characters": report.get("characters"),
            **{f"dropped_{reason}": report.get("dropped", {}).get(reason) for reason in reasons},
        }
        for name, report in experiment.corpora.items()
    ]
    numbers = ["pages", "documents", "characters", *(f"dropped_{reason}" for reason in reasons)]
    cells = [
        [text(experiment.language(record["corpus"])), *(number(record[key]) for key in numbers)]
        for record in records
    ]
    header = ["Corpus", "Pages", "Documents kept", "Characters"]
    header += [f"Dropped: {reason.replace('_', ' ')}" for reason in reasons]
    notes = [
        f"{experiment.language(name)}: {source if isinstance(source, str) else sources(source)}."
        for name, report in experiment.corpora.items()
        if (source := report.get("source"))
    ]
    return Table("corpora", "The text the students learned from.", header, cells, records, notes)


def sources(source: dict | list) -> str:
    """A corpus's source in words, where it is more than one name."""
    if isinstance(source, dict):
        return ", ".join(f"{key} {value}" for key, value in source.items())
    return ", ".join(map(str, source))


def vocabularies(experiment: Experiment) -> Table:
    """Sub-words kept, the share of running text they cover, and what the cut costs on each text."""
    records, cells = [], []
    for report in experiment.vocabularies:
        subwords, covered = report["sub_words"], report["share_of_running_text"]
        for name, measured in report["texts"].items():
            records.append(
                {
                    **{key: report[key] for key in ("corpus", "teacher", "rule")},
                    "kept": subwords["kept"],
                    "of": subwords["of"],
                    "new": subwords.get("new", 0),
                    "share_of_running_text": covered,
                    "text": name,
                    "words": measured.get("words"),
                    **{
                        f"{measure}_{when}": measured[when][measure]
                        for measure in ("unknown_share", "sub_words_per_word")
                        for when in ("before", "after")
                    },
                }
            )
            is_task = name in experiment.settings["tasks"]
            what = experiment.task_label(name) if is_task else name
            before, after = measured["before"], measured["after"]
            cells.append(
                [
                    text(experiment.language(report["corpus"])),
                    text(report["rule"]),
                    number(subwords["kept"]),
                    number(subwords["of"]),
                    number(subwords.get("new", 0)),
                    number(covered, ".2%"),
                    text(what),
                    *(number(row["unknown_share"], ".3%") for row in (before, after)),
                    *(number(row["sub_words_per_word"], ".2f") for row in (before, after)),
                ]
            )
    header = ["Corpus", "Rule", "Sub-words kept", "Of", "New", "Of running text", "Measured on"]
    header += ["[UNK] before", "[UNK] after", "Sub-words a word before", "After"]
    caption = "The cut and the amplified vocabularies, and what they do to corpus and tasks."
    return Table("vocabularies", caption, header, cells, records)
