"""A student's settings in words, for its model card and the report."""

from eliquare.distillation.terms import in_words, terms
from eliquare.reporting.formats import Table, text
from eliquare.reporting.results import Experiment


def recipe(experiment: Experiment, student: str) -> dict[str, str]:
    """What a student was made with: name of the setting, value in words."""
    own = experiment.entry(student)
    trained = experiment.entry(experiment.layout.distilled_by(student))
    training, objective = trained["training"], trained["objective"]
    words = {
        "Teacher": ", ".join(
            experiment.label(name) for name in trained.get("teachers") or [trained["teacher"]]
        ),
        "Vocabulary": vocabulary(experiment, own),
        "Layers": str(trained["layers"]),
        "Hidden size": str(trained["hidden_size"] or "the teacher's"),
        "Initialisation": trained["initialisation"],
    }
    if training["steps"] == 0:
        return words | {"Training": "none"}
    budget = f"{training['steps']:,} steps" if training["steps"] else f"{training['epochs']} epochs"
    corpus = trained["corpus"]
    return words | {
        "Frozen": ", ".join(trained["freeze"]) or "nothing",
        "Corpus": experiment.language(corpus) if corpus else "the language's own",
        "Share of documents": f"{trained['data_fraction']:.0%}",
        "Objective": in_words(terms(objective)),
        "Budget": budget,
        "Sequences a step": f"{training['batch_size'] * training['accumulation']:,} a process",
        "Learning rate": f"{training['learning_rate']:g}",
        "Warm-up": f"{training['warmup_share']:.0%} of the steps",
        "Weight decay": f"{training['weight_decay']:g}",
        "Precision": training["precision"],
        "Seed": str(training["seed"]),
    }


def vocabulary(experiment: Experiment, entry: dict) -> str:
    """How a student's vocabulary came about."""
    if entry["vocabulary"] == "full":
        return "the teacher's, whole"
    if entry["vocabulary"] == "amplified":
        return amplified(experiment, entry)
    rule = experiment.settings["vocabularies"][entry["rule"]]
    kept = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in rule.items())
    if entry["vocabulary"] == "pre":
        return f"cut before distillation ({kept})"
    return f"{experiment.label(entry['of'])}, cut after distillation ({kept})"


def amplified(experiment: Experiment, entry: dict) -> str:
    """How a vocabulary with new sub-words came about."""
    own = experiment.settings["amplifications"][entry["amplification"]]
    many = f"{own['add']:,} asked for" if own["add"] else f"gain {own['gain'] or 'by default'}"
    start = "the teacher's"
    if own["rule"]:
        rule = experiment.settings["vocabularies"][own["rule"]]
        start += f" cut before ({', '.join(f'{k} {v}' for k, v in rule.items())})".replace("_", " ")
    return (
        f"{start}, with new sub-words ({own['method']}; {many}; at least {own['least']} "
        f"occurrences; embeddings: {own['initialisation']})"
    )


def recipes(experiment: Experiment) -> Table:
    """The settings of all students, a column each."""
    of = {student: recipe(experiment, student) for student in experiment.students}
    settings = dict.fromkeys(name for words in of.values() for name in words)
    rows = [[text(name), *(text(words.get(name)) for words in of.values())] for name in settings]
    header = ["Setting", *(experiment.label(student) for student in of)]
    records = [{"student": student, **words} for student, words in of.items()]
    return Table("recipes", "What each student was made with.", header, rows, records)
