"""The report of an experiment: one HTML file that needs nothing beside it."""

import argparse
import base64
from pathlib import Path

from eliquare import stage
from eliquare.reporting import costs, learned_from, results
from eliquare.reporting.formats import Cell, Table
from eliquare.reporting.headline import headline
from eliquare.reporting.recipes import recipes
from eliquare.reporting.results import Experiment
from eliquare.reporting.templates import FOLDER, render
from eliquare.reporting.verifications import verifications

VERSION = 3


def tables(folder: Path) -> dict[str, Table]:
    """The tables that the tables stage made, by name."""
    made = {}
    for values in stage.read_json(folder / "tables.json"):
        rows = [[Cell(**cell) for cell in row] for row in values.pop("rows")]
        made[values["name"]] = Table(**values, rows=rows)
    return made


def plots(folder: Path) -> dict[str, list[dict[str, str]]]:
    """The figures that the plots stage made, by kind, each with its PNG as a data address."""
    kinds: dict[str, list[dict[str, str]]] = {"size": [], "scores": [], "curves": []}
    for plot in stage.read_json(folder / "plots.json"):
        picture = stage.existing(folder / f"{plot['name']}.png", "figure").read_bytes()
        address = "data:image/png;base64," + base64.b64encode(picture).decode("ascii")
        kinds[plot["kind"]].append({**plot, "address": address})
    return kinds


def distillations(experiment: Experiment) -> list[dict]:
    """For each distillation: what it went over, how fast, on which hardware and versions."""
    found = []
    for curve in experiment.curves:
        provenance = experiment.provenance(curve.student, curve.corpus)
        trained = [row for row in curve.rows if "tokens" in row]
        last = trained[-1] if trained else {}
        checked = [row for row in curve.rows if "validation_loss" in row]
        # Without the KL term in the objective, the whole loss chooses the checkpoint.
        chosen_by = (
            "validation_kl" if any("validation_kl" in row for row in checked) else "validation_loss"
        )
        best = min(checked, key=lambda row: row[chosen_by], default={})
        found.append(
            {
                "student": experiment.label(curve.student),
                "corpus": experiment.language(curve.corpus),
                "steps": last.get("step"),
                "tokens": last.get("tokens"),
                "seconds": last.get("seconds"),
                "best_step": best.get("step"),
                "best_loss": best.get(chosen_by),
                "versions": provenance.get("versions", {}),
                "hardware": provenance.get("hardware", {}),
            }
        )
    return found


def distinct(values: list[dict]) -> list[str]:
    """Each mapping in words, once."""
    words = (", ".join(f"{key} {value}" for key, value in each.items()) for each in values)
    return list(dict.fromkeys(filter(None, words)))


def html(experiment: Experiment, tables_folder: Path, plots_folder: Path) -> str:
    """The whole report."""
    trained = distillations(experiment)
    measured = experiment.measured.values()
    return render(
        "report.html.j2",
        title=experiment.title,
        name=experiment.name,
        headline=headline(experiment),
        style=(FOLDER / "style.css").read_text(encoding="utf-8"),
        languages=[experiment.language(code) for code in experiment.languages],
        seeds=experiment.seeds,
        tables=tables(tables_folder),
        plots=plots(plots_folder),
        corpora=learned_from.corpora(experiment),
        warnings={
            experiment.language(name): report["warnings"]
            for name, report in experiment.corpora.items()
            if report.get("warnings")
        },
        vocabularies=learned_from.vocabularies(experiment),
        verifications=verifications(experiment),
        recipes=recipes(experiment),
        distillations=trained,
        costs=costs.tables(experiment),
        versions=distinct([each["versions"] for each in trained]),
        hardware=distinct([each["hardware"] for each in trained]),
        measured_versions=distinct([each["versions"] for each in measured]),
        papers=sorted({table["paper"] for table in experiment.papers}),
    )


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(
        prog="python -m eliquare.reporting.report", description=__doc__
    )
    options.add_argument("--settings", required=True, type=Path, help="completed settings (JSON)")
    options.add_argument("--results", required=True, type=Path, help="folder of all results")
    options.add_argument("--tables", required=True, type=Path, help="folder of the tables stage")
    options.add_argument("--plots", required=True, type=Path, help="folder of the plots stage")
    options.add_argument("--output", required=True, type=Path, help="HTML file to write")
    return options


def run(arguments: argparse.Namespace) -> None:
    """Write the report."""
    experiment = results.read(arguments.settings, arguments.results)
    written = html(experiment, arguments.tables, arguments.plots)
    with stage.whole_file(arguments.output) as beside:
        beside.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    stage.main(parser(), run)
