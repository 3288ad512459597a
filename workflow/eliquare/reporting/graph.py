"""The rules that made the results, drawn as a graph from the first to the report.

Snakemake draws such a graph itself, but not from inside a job. So the table below names the rules
that each rule takes from; a test compares its names with those of the rule files.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from statistics import fmean

from eliquare.reporting.results import Experiment
from eliquare.reporting.sections import jobs

DOCUMENTS = ("extract_documents", "read_text", "read_dataset", "mix")
TEACHERS = ("fetch_teacher", "pretrain_teacher", "adapt_teacher")
MODELS = (
    *TEACHERS,
    "fetch_system",
    "reduce_teacher",
    "distill",
    "distill_extended",
    "reduce_student",
)
MEASURED = ("finetune", "benchmark", "evaluate_intrinsic")
FETCHED = ("fetch_task", "fetch_optional_task")
VOCABULARIES = ("vocabulary_report", "extension_report")
# Each rule with the rules that it takes from, directly.
RULES: dict[str, tuple[str, ...]] = {
    "download_dump": (),
    "extract_documents": ("download_dump",),
    "read_text": (),
    "read_dataset": (),
    "mix": ("extract_documents", "read_text", "read_dataset"),
    "sample_held_out": DOCUMENTS,
    "sample_unlabelled": DOCUMENTS,
    "fetch_teacher": (),
    "fetch_system": (),
    "train_tokenizer": DOCUMENTS,
    "tokenize": (*DOCUMENTS, "fetch_teacher", "train_tokenizer"),
    "fix_masks": ("tokenize",),
    "pretrain_teacher": ("fix_masks",),
    "adapt_teacher": ("fetch_teacher", "pretrain_teacher", "fix_masks", "extend_teacher"),
    "select_vocabulary": ("tokenize",),
    "reduce_teacher": (*TEACHERS, "select_vocabulary"),
    "vocabulary_report": ("reduce_teacher", *FETCHED),
    "extend_teacher": ("fetch_teacher", "pretrain_teacher", "reduce_teacher"),
    "extension_report": ("extend_teacher", *FETCHED),
    "tokenize_extended": ("extend_teacher",),
    "fix_masks_extended": ("tokenize_extended",),
    "distill": (*TEACHERS, "reduce_teacher", "fix_masks"),
    "distill_extended": (*TEACHERS, "extend_teacher", "fix_masks_extended"),
    "reduce_student": ("distill", "select_vocabulary"),
    "verify_student": ("reduce_student", *FETCHED),
    "fetch_task": (),
    "fetch_optional_task": (),
    "finetune": (*MODELS, *FETCHED, "sample_unlabelled"),
    "benchmark": MODELS,
    "evaluate_intrinsic": (*MODELS, *FETCHED, "sample_held_out"),
    "freeze_config": (),
    "tables": (*MEASURED, *VOCABULARIES),
    "figures": (*MEASURED, *VOCABULARIES),
    "export": (
        *("finetune", "distill", "distill_extended", "reduce_student", "sample_held_out"),
        *FETCHED,
    ),
    "release": ("distill", "distill_extended", "reduce_student", *MEASURED, "export"),
    "report": ("tables", "figures", *VOCABULARIES, "verify_student", "export"),
}
BOX_WIDTH, BOX_HEIGHT, THREAD_WIDTH = 142, 44, 16
GAP_X, GAP_Y, MARGIN = 14, 40, 6


@dataclass
class Node:
    """A box, or a place where an edge passes a layer; ``x`` and ``y`` are of its middle."""

    rule: str
    layer: int
    is_box: bool = True
    above: list["Node"] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> int:
        """Its width."""
        return BOX_WIDTH if self.is_box else THREAD_WIDTH


@dataclass(frozen=True)
class Graph:
    """A picture of rules: boxes with two lines of words, and the paths of the edges."""

    width: float
    height: float
    boxes: list[dict[str, float | str]]
    edges: list[str]
    box_width: int = BOX_WIDTH
    box_height: int = BOX_HEIGHT


def rules_that_ran(experiment: Experiment) -> dict[str, str]:
    """Return the rules of the experiment's results, each with its jobs and their time in words.

    Rules whose results experiments share by a cache leave no times: they follow from the settings.
    """
    settings, paths = experiment.settings, experiment.paths
    ran: dict[str, str] = {}
    used = {
        code for corpus in experiment.corpora for code in [corpus, *settings.members(corpus)]
    } & settings.languages.keys()
    corpora = [settings.languages[code].corpus for code in sorted(used)]
    if any(corpus.source == "dump" and not corpus.file for corpus in corpora):
        ran["download_dump"] = ""
    by_source = {"dump": "extract_documents", "text": "read_text", "dataset": "read_dataset"}
    ran |= {by_source[corpus.source]: "" for corpus in corpora}
    if any(settings.teachers[name].source in ("hub", "folder") for name in roots(experiment)):
        ran["fetch_teacher"] = ""
    if any(settings.systems[name].model for name in experiment.systems if name in settings.systems):
        ran["fetch_system"] = ""
    compared = [settings.tasks[name].fetched for name in settings.experiment.tasks or ()]
    for task in paths.fetched_tasks().values():
        if task.fetched in compared:
            ran["fetch_optional_task" if task.optional else "fetch_task"] = ""
    recorded = jobs(experiment)
    for rule, rows in recorded.groupby("rule") if len(recorded) else ():
        number = f"{len(rows):,} job" + "s" * (len(rows) > 1)
        ran[str(rule)] = f"{number} · {duration(float(rows['s'].sum()))}"
    ran |= dict.fromkeys(("tables", "figures", "report"), "")
    if paths.released():
        ran["release"] = ""
    return {rule: words for rule, words in ran.items() if rule in RULES}


def roots(experiment: Experiment) -> set[str]:
    """Return the teachers that the experiment's students and systems begin with."""
    paths = experiment.paths
    named = {experiment.teacher(system) or system for system in experiment.systems}
    known = named & experiment.settings.teachers.keys()
    return {paths.adapted_from(name)[-1] for name in known}


def duration(seconds: float) -> str:
    """Return seconds in the unit that people would use."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def inputs_among(shown: Collection[str]) -> dict[str, set[str]]:
    """Return for each shown rule those before it; an edge that a longer way implies is left out."""
    direct = {rule: {*RULES[rule]} & {*shown} for rule in shown}
    if "extend_teacher" in direct:
        # A teacher is reduced, extended, then adapted; without new tokens, adapted, then reduced.
        direct.get("reduce_teacher", set()).discard("adapt_teacher")

    def all_before(rule: str) -> set[str]:
        return direct[rule].union(*map(all_before, direct[rule]))

    return {rule: above - set().union(*map(all_before, above)) for rule, above in direct.items()}


def draw(ran: Mapping[str, str]) -> Graph:
    """Return the picture: the first rules above, the report below."""
    inputs = inputs_among(ran)

    def layer_of(rule: str) -> int:
        return 1 + max(map(layer_of, inputs[rule]), default=-1)

    nodes = {rule: Node(rule, layer_of(rule)) for rule in ran}
    layers: list[list[Node]] = [[] for _ in range(1 + max(node.layer for node in nodes.values()))]
    for rule, node in nodes.items():
        layers[node.layer].append(node)
        for above in (nodes[name] for name in sorted(inputs[rule])):
            # An edge past a layer gets a place in it, so that no box stands on it.
            start = above
            for passed in range(above.layer + 1, node.layer):
                place = Node(rule, passed, is_box=False, above=[start])
                layers[passed].append(place)
                start = place
            node.above.append(start)
    for depth, layer in enumerate(layers):
        if depth:
            layer.sort(key=lambda node: fmean(n.x for n in node.above) if node.above else 0.0)
        x = 0.0
        for node in layer:
            node.x, node.y = x + node.width / 2, MARGIN + depth * (BOX_HEIGHT + GAP_Y)
            x += node.width + GAP_X
    width = max(layer[-1].x + layer[-1].width / 2 for layer in layers)
    for layer in layers:
        spare = (width - layer[-1].x - layer[-1].width / 2) / 2
        for node in layer:
            node.x += MARGIN + spare
    every = [node for layer in layers for node in layer]
    return Graph(
        round(width + 2 * MARGIN),
        2 * MARGIN + len(layers) * (BOX_HEIGHT + GAP_Y) - GAP_Y,
        [
            {
                "x": round(node.x - BOX_WIDTH / 2, 1),
                "y": node.y,
                "name": node.rule.replace("_", " "),
                "words": ran[node.rule],
            }
            for node in nodes.values()
        ],
        [edge(above, node) for node in every for above in node.above],
    )


def edge(above: Node, below: Node) -> str:
    """Return the path from the bottom of a node to the top of the next one."""
    start = above.y + BOX_HEIGHT
    middle = (start + below.y) / 2
    through = "" if above.is_box else f"M{above.x:.1f} {above.y}V{start}"
    return (
        f"{through}M{above.x:.1f} {start}C{above.x:.1f} {middle} {below.x:.1f} {middle} "
        f"{below.x:.1f} {below.y}"
    )
