"""The frontier: score against latency, and against bytes on disk, one point for each system.

The int8 and static forms of students are points too. A point is on the frontier where no other one
scores as high and is as fast, or as small. The pictures are SVG within the page, so that names are
written in the reader's own fonts.
"""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from eliquare.io import read_json
from eliquare.reporting.formats import Cell, Table, tabulate
from eliquare.reporting.results import Experiment, in_words, metric_label
from eliquare.reporting.sections import count_tasks

# The place of a picture's axes, in its own units.
WIDTH, HEIGHT = 440, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 18, 16, 46
# Where the number of a point may stand beside it; the first place that is free counts.
PLACES = ((9, -7), (-9, -7), (9, 15), (-9, 15), (0, -12), (0, 22), (18, 4), (-18, 4), (22, -18))
FREE = 13.0
MEGABYTE = 1_000_000
COSTS = {"latency": "Latency (ms)", "size": "On disk (MB)"}
FORMS = ("ONNX float32", "int8", "static")


@dataclass(frozen=True)
class Point:
    """What a system, or a form of a student, scores and costs.

    Attributes:
        name: of the system, or of the student and the form.
        label: what people read.
        score: the higher, the better, also where bits are.
        size: in MB.
        latency: in ms; None where it was measured otherwise than those of systems.
    """

    name: str
    label: str
    score: float
    size: float
    latency: float | None = None

    def cost(self, kind: str) -> float:
        """Return its ``size`` or ``latency``; infinite if that is not known."""
        value: float | None = getattr(self, kind)
        return math.inf if value is None else value


@dataclass(frozen=True)
class Dot:
    """A point of a picture: its place, the place of its number, its words."""

    number: int
    x: float
    y: float
    label_x: float
    label_y: float
    words: str
    is_best: bool


@dataclass(frozen=True)
class Picture:
    """A picture: its words, its marks along both axes, its points, the line of the frontier."""

    title: str
    cost: str
    score: str
    x_marks: list[tuple[float, str]]
    y_marks: list[tuple[float, str]]
    dots: list[Dot]
    line: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def frontier(points: Iterable[Point], kind: str) -> list[Point]:
    """Return the points that no other one beats, cheapest first.

    Of points with the same cost the best one stays; of equal points, the first.
    """
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each.cost(kind), -each.score)):
        if point.cost(kind) < math.inf and (not best or point.score > best[-1].score):
            best.append(point)
    return best


def latency(benchmark: dict[str, Any]) -> float:
    """Return the median latency of the encoder in ms, for the smallest batch measured."""
    rows = [row for row in benchmark["measurements"] if row["part"] == "encoder"]
    fewest = min(rows, key=lambda row: int(row["batch_size"]))
    return float(fewest["latency_ms"]["median"])


def points(experiment: Experiment, language: str, tasks: list[str]) -> list[Point]:
    """Return a point for each system with a score on all tasks and a benchmark, then for forms.

    Without tasks, the score is the bits per character of held-out text, less than 0.
    """
    found = []
    for (system, _), benchmark in experiment.benchmarks_of(experiment.systems, [language]).items():
        score = experiment.mean_score(system, tasks)
        bits = None if tasks else experiment.intrinsic_score(system, language)
        value = score.mean if score else -bits.mean if bits else None
        if value is not None:
            size, label = float(benchmark["weights_mb"]), experiment.label(system)
            found.append(Point(system, label, value, size, latency(benchmark)))
    for student, code, report in exported(experiment):
        if code == language and tasks and student in experiment.systems:
            found += points_of_forms(experiment, student, language, report, tasks)
    return found


def points_of_forms(
    experiment: Experiment, student: str, language: str, report: dict[str, Any], tasks: list[str]
) -> Iterator[Point]:
    """Yield the forms of a student that are kept and have a score on all tasks.

    ONNX in float32 and int8: its models of the tasks, each the best of its seeds on validation;
    bytes and latency are the mean over them.
    """
    label = experiment.label(student)
    benchmark = experiment.benchmarks_of([student], [language]).get((student, language))
    is_alike = benchmark is not None and report["measured"] == measured_on(benchmark)
    exports = [report["tasks"].get(task, {}).get("onnx", {}) for task in tasks]
    for form, files in (
        ("ONNX float32", [each.get("float32") for each in exports]),
        ("int8", [int8_of(each) for each in exports]),
    ):
        made = [each for each in files if each]
        if len(made) == len(tasks):
            yield Point(
                f"{student} {form}",
                f"{label}, {form}",
                statistics.mean(each["scores"]["test"] for each in made),
                statistics.mean(each["bytes"] for each in made) / MEGABYTE,
                statistics.mean(each["latency_ms"]["median"] for each in made)
                if is_alike
                else None,
            )
    static = report.get("static", {"tasks": {}})
    scored = [static["tasks"].get(task) for task in tasks]
    if all(scored):
        yield Point(
            f"{student} static",
            f"{label}, static embeddings",
            statistics.mean(each["test"][each["metric"]] for each in scored),
            static["bytes"] / MEGABYTE,
            static["latency_ms"]["median"] if is_alike else None,
        )


def int8_of(onnx: dict[str, Any]) -> dict[str, Any]:
    """Return what the int8 form of a task's model scores and takes; empty if it is not kept."""
    return next((each for each in onnx.get("int8", {}).values() if each["passed"]), {})


def measured_on(benchmark: dict[str, Any]) -> dict[str, Any]:
    """Return how the latency of a benchmark was measured, as an export says it."""
    batch = min(row["batch_size"] for row in benchmark["measurements"])
    kept = {key: benchmark[key] for key in ("device", "threads", "sequence_length")}
    return kept | {"batch_size": batch}


def exported(experiment: Experiment) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each student with other forms, its language and the report of these."""
    paths = experiment.paths
    for student, language in paths.released():
        file = paths.exports(student, language) / "report.json"
        if paths.export(student) and file.exists():
            yield student, language, read_json(file)


def pictures(experiment: Experiment) -> list[dict[str, Any]]:
    """Return for each language its pictures of the mean, and of each task."""
    found = []
    names = [*experiment.systems]
    names += [f"{student} {form}" for student in experiment.students for form in FORMS]
    for language in experiment.languages:
        tasks = experiment.scored(experiment.paths.tasks([language]))
        mean = f"Mean of {count_tasks(tasks)}" if tasks else "Held-out text"
        metric = metric_label(experiment.metric(tasks[0])) if len(tasks) == 1 else "Mean score"
        groups = [(mean, metric if tasks else "Bits per character", tasks)]
        if len(tasks) > 1:
            groups += [
                (experiment.task_title(task), metric_label(experiment.metric(task)), [task])
                for task in tasks
            ]
        drawn: list[Picture] = []
        labels: dict[int, str] = {}
        for title, score, of in groups:
            here = points(experiment, language, of)
            labels |= {names.index(point.name) + 1: point.label for point in here}
            drawn += [draw(names, here, title, cost, score) for cost in COSTS]
        drawn = [picture for picture in drawn if picture.dots]
        if drawn:
            found.append(
                {
                    "language": experiment.language(language),
                    "mean": drawn[: len(COSTS)],
                    "tasks": drawn[len(COSTS) :],
                    "systems": dict(sorted(labels.items())),
                    "condition": condition(experiment, language),
                    "forms": max(labels) > len(experiment.systems),
                }
            )
    return found


def condition(experiment: Experiment, language: str) -> str:
    """Return how the latencies of a language were measured, if alike for all systems."""
    said = {
        f"the encoder, batch size {min(row['batch_size'] for row in each['measurements'])}, "
        f"{in_words(each)}"
        for each in experiment.benchmarks_of(experiment.systems, [language]).values()
    }
    return said.pop() if len(said) == 1 else "the encoder; see the table of speeds"


def draw(
    names: Sequence[str], given: Sequence[Point], title: str, kind: str, score: str
) -> Picture:
    """Return the picture of some points: costs on a logarithmic axis, the best above and left.

    A point's number is its place in ``names``.
    """
    cost = COSTS[kind]
    found = [point for point in given if point.cost(kind) < math.inf]
    if not found:
        return Picture(title, cost, score, [], [], [], "")
    low, high = widened([math.log10(max(point.cost(kind), 1e-6)) for point in found], 0.15)
    bottom, top = widened([point.score for point in found], 0.01)

    def x(value: float) -> float:
        share = (math.log10(max(value, 1e-6)) - low) / (high - low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        share = (value - bottom) / (top - bottom)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    best = frontier(found, kind)
    places = [(x(point.cost(kind)), y(point.score)) for point in found]
    taken = list(places)
    dots = []
    for point, (across, down) in zip(found, places, strict=True):
        beside = label_place(across, down, taken)
        taken.append(beside)
        words = f"{point.label}: {abs(point.score):.4f}, {significant(point.cost(kind))}"
        unit = cost.partition("(")[2].rstrip(")")
        number = names.index(point.name) + 1
        dots.append(Dot(number, across, down, *beside, f"{words} {unit}", point in best))
    # Of dots in one place, that of the frontier is seen.
    dots.sort(key=lambda dot: dot.is_best)
    # Between two systems nothing is known: a step, not a slope.
    steps = [f"M{x(best[0].cost(kind))} {HEIGHT - BOTTOM}V{y(best[0].score)}"]
    steps += [f"H{x(point.cost(kind))}V{y(point.score)}" for point in best[1:]]
    return Picture(
        title,
        cost,
        score,
        [(x(value), f"{value:,g}") for value in log_marks(10**low, 10**high)],
        [(y(value), f"{abs(value):g}") for value in marks(bottom, top)],
        dots,
        "".join(steps) + f"H{WIDTH - RIGHT}",
    )


def widened(values: Sequence[float], least: float) -> tuple[float, float]:
    """Return the ends of an axis: a part of the range beyond the values, ``least`` at least."""
    margin = max((max(values) - min(values)) * 0.12, least)
    return min(values) - margin, max(values) + margin


def marks(low: float, high: float) -> list[float]:
    """Return about five round numbers from low to high, at equal distances."""
    least = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(least))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least)
    return [round(n * step, 9) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_marks(low: float, high: float) -> list[float]:
    """Return round numbers from low to high: powers of 10, with 2 and 5 between, or finer ones."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [round(digit * 10.0**power, 9) for power in powers for digit in (1, 2, 5)]
    found = [mark for mark in found if low <= mark <= high]
    if len(found) < 2:
        return marks(low, high)
    return [mark for mark in found if len(found) <= 7 or f"{mark:e}".startswith("1")]


def label_place(x: float, y: float, taken: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return where the number of a point stands: the first place that touches nothing else."""
    others = [place for place in taken if place != (x, y)]
    candidates = [(x + across, y + down) for across, down in PLACES]

    def room(place: tuple[float, float]) -> float:
        inside = LEFT < place[0] < WIDTH - RIGHT + 10 and TOP - 8 < place[1] < HEIGHT - BOTTOM
        # Text stands above its base line, so its middle is 4 higher.
        nearest = min((math.dist((place[0], place[1] - 4), other) for other in others), default=99)
        return min(nearest, FREE) if inside else -1

    return max(candidates, key=room)


def significant(cost: float) -> str:
    """Return a cost with two decimals, or with three digits where it is less than 1."""
    return f"{cost:,.2f}" if cost >= 1 else f"{cost:.3g}"


def table(experiment: Experiment) -> Table:
    """Score, latency and bytes of each point by language, and whether it is on a frontier."""
    records = []
    for language in experiment.languages:
        tasks = experiment.scored(experiment.paths.tasks([language]))
        found = points(experiment, language, tasks)
        best = {kind: frontier(found, kind) for kind in COSTS}
        for point in found:
            is_best = {kind: Cell("yes" if point in best[kind] else "no") for kind in COSTS}
            records.append(
                {
                    "language": language,
                    "system": point.label,
                    "score": abs(point.score),
                    "latency_ms": point.latency,
                    "weights_mb": point.size,
                    "on latency": is_best["latency"] if point.latency else None,
                    "on size": is_best["size"],
                }
            )
    return tabulate(experiment, "frontier", records)


def forms(experiment: Experiment) -> Table:
    """Scores, bytes and latency of the other forms of each student, and which are kept."""
    records: list[dict[str, Any]] = []
    for student, language, report in exported(experiment):
        names = {"language": language, "system": student, "model": "no task"}
        if "static" in report:
            static = {"form": "static embeddings"}
            static |= {"megabytes": report["static"]["bytes"] / MEGABYTE}
            static |= {"latency_ms": report["static"]["latency_ms"]["median"]}
            records.append(names | static)
            for task, found in report["static"]["tasks"].items():
                scores = {s: found[s][found["metric"]] for s in ("validation", "test")}
                own = {"model": experiment.task_title(task), "metric": found["metric"]}
                records.append(names | static | own | scores)
        kept = {task: found for task, found in report["tasks"].items() if "seed" in found}
        for task, found in ({"": report} | kept).items():
            if "onnx" not in found:
                continue
            own = names | ({"model": experiment.task_title(task)} if task else {})
            onnx = found["onnx"]
            plain = {"form": "PyTorch, float32", "latency_ms": onnx["torch_latency_ms"]["median"]}
            scores = {s: found[s][found["metric"]] for s in ("validation", "test") if s in found}
            records.append(own | plain | scores | {"metric": found.get("metric")})
            made = {"float32": onnx["float32"]}
            made |= {f"int8 ({method})": tried for method, tried in onnx["int8"].items()}
            for form, measured in made.items():
                numbers = {"megabytes": measured["bytes"] / MEGABYTE, "metric": onnx["metric"]}
                numbers |= {"latency_ms": measured["latency_ms"]["median"], **measured["scores"]}
                is_kept = Cell("kept", bold=True) if form == onnx["kept"] else Cell("")
                records.append(own | {"form": f"ONNX, {form}", "is kept": is_kept} | numbers)
    return tabulate(experiment, "forms", records)
