"""Where everything stands under ``results/``, for a completed configuration.

The rules and the report find files by these functions alone. What several experiments share
(corpora, teachers, students, fine-tuned systems) has no experiment in its path.
"""

from pathlib import Path
from typing import Any

RESULTS = Path("results")
DUMPS = Path("resources/dumps")
FULL = "full"


class Layout:
    """The paths of one configuration, below ``results``."""

    def __init__(self, config: dict[str, Any], results: str | Path = RESULTS):
        self.config = config
        self.results = Path(results)

    def experiment(self) -> Path:
        """Folder of the tables, plots, models and report."""
        return self.results / self.config["name"]

    def documents(self, corpus: str) -> Path:
        """Documents folder of a language or a mixture."""
        return self.results / "corpora" / corpus / "documents"

    def wiki(self, language: str) -> str:
        """The host's name of a language's Wikipedia."""
        entry = self.config["languages"][language]["corpus"]
        return entry.get("wiki", f"{language.replace('-', '_')}wiki")

    def dump(self, language: str) -> str | Path:
        """The dump of a language: a file that is there, or a download."""
        entry = self.config["languages"][language]["corpus"]
        download = f"{self.wiki(language)}-{entry.get('date')}-pages-articles.xml.bz2"
        return entry.get("file", DUMPS / download)

    def prepared(self, corpus: str, teacher: str, vocabulary: str) -> Path:
        """Folder of sequences, counts and masking: a corpus seen through one tokenizer."""
        return self.results / "corpora" / corpus / self.root(teacher) / vocabulary

    def root(self, teacher: str) -> str:
        """The teacher whose tokenizer this one has: itself, or the one it was conditioned from."""
        entry = self.config["teachers"][teacher]
        return self.root(entry["teacher"]) if entry["source"] == "condition" else teacher

    def tokenizer(self, corpus: str, teacher: str, vocabulary: str) -> Path:
        """Folder with the tokenizer of a teacher, whole or cut to a corpus."""
        root = self.root(teacher)
        if vocabulary != FULL:
            return self.teacher(corpus, root, vocabulary)
        if self.config["teachers"][root]["source"] == "pretrain":
            return self.results / "teachers" / root / "tokenizer"
        return self.teacher(corpus, root, FULL)

    def teacher(self, corpus: str, teacher: str, vocabulary: str = FULL) -> Path:
        """Model folder of a teacher; conditioned or cut ones belong to a corpus."""
        conditioned = self.config["teachers"][teacher]["source"] == "condition"
        if vocabulary == FULL and not conditioned:
            return self.results / "teachers" / teacher / "model"
        return self.results / "corpora" / corpus / teacher / vocabulary / "model"

    def corpus_of(self, student: str, language: str) -> str:
        """The corpus a student is distilled on."""
        return self.config["students"][student]["corpus"] or language

    def vocabulary_of(self, student: str) -> str:
        """The vocabulary a student is distilled with: full, or the name of the rule that cut it, or
        of the amplification that it has new sub-words of."""
        recipe = self.config["students"][student]
        if recipe["vocabulary"] == "amplified":
            return recipe["amplification"]
        return recipe["rule"] if recipe["vocabulary"] == "pre" else FULL

    def taught_with(self, student: str) -> str:
        """The vocabulary of the teacher in a student's distillation."""
        vocabulary = self.vocabulary_of(student)
        return self.amplified_from(vocabulary) if self.is_amplified(vocabulary) else vocabulary

    def teachers_of(self, student: str) -> list[str]:
        """The teachers of a student: its own, then the others in the order of their names."""
        recipe = self.config["students"][student]
        others = sorted(name for name in recipe["teachers"] or [] if name != recipe["teacher"])
        return [recipe["teacher"], *others]

    def other_teachers(self, student: str, corpus: str) -> list[Path]:
        """Model folders of the teachers of a student but its own."""
        vocabulary = self.taught_with(student)
        return [self.teacher(corpus, name, vocabulary) for name in self.teachers_of(student)[1:]]

    def is_amplified(self, vocabulary: str) -> bool:
        """Whether a vocabulary is one with new sub-words."""
        return vocabulary in self.config.get("amplifications", {})

    def amplified_from(self, vocabulary: str) -> str:
        """The vocabulary that new sub-words were added to."""
        return self.config["amplifications"][vocabulary]["rule"] or FULL

    def student(self, student: str, corpus: str, part: str) -> Path:
        """What stands in a student's folder: ``initial``, ``distilled``, ``reduced``, …"""
        return self.results / "students" / student / corpus / part

    def distilled_by(self, student: str) -> str:
        """The student whose training made this one: itself, or the one that it is cut from."""
        recipe = self.config["students"][student]
        return recipe["of"] if recipe["vocabulary"] == "post" else student

    def model(self, system: str, language: str) -> Path:
        """Model folder of any system for a language."""
        config = self.config
        if system in config["teachers"]:
            return self.teacher(language, system)
        if system in config["systems"]:
            entry = config["systems"][system]
            if "rule" in entry:
                return self.teacher(language, entry["teacher"], entry["rule"])
            return self.results / "systems" / system / "model"
        recipe = config["students"][system]
        corpus = self.corpus_of(system, language)
        if recipe["vocabulary"] == "post":
            # One multilingual student can be cut for each language.
            return self.student(system, language, "reduced")
        trained = recipe["training"]["steps"] != 0
        return self.student(system, corpus, "distilled" if trained else "initial")

    def history(self, student: str, language: str) -> Path | None:
        """The losses of a student's training; None if it was not trained for this language."""
        by = self.distilled_by(student)
        trained = self.config["students"][by]["training"]["steps"] != 0
        if not trained or not self.is_for(student, language):
            return None
        return self.student(by, self.corpus_of(by, language), "distilled") / "history.jsonl"

    def vocabulary_report(self, corpus: str, teacher: str, rule: str) -> Path:
        """What cutting a teacher's vocabulary to a corpus did."""
        return self.results / "corpora" / corpus / teacher / rule / "vocabulary.json"

    def verification(self, student: str, language: str) -> Path:
        """What comparing a student cut after its training with the whole one found."""
        return self.student(student, language, "verification.json")

    def cut_afterwards(self) -> list[tuple[str, str]]:
        """Each compared (student, language) whose vocabulary is cut after its training."""
        return [
            (system, language)
            for language, system in self.pairs()
            if self.config["students"].get(system, {}).get("vocabulary") == "post"
        ]

    def finetuned(self, task: str, system: str, seed: int | str) -> Path:
        """Folder with the metrics and predictions of one fine-tuning."""
        return self.results / "finetuned" / task / system / f"seed-{seed}"

    def measured(self, language: str, system: str) -> Path:
        """Sizes and speeds of a system."""
        return self.results / "measured" / language / f"{system}.json"

    def is_for(self, system: str, language: str) -> bool:
        """Whether a system is meant for a language."""
        config = self.config
        entry = config["students"].get(system) or config["systems"].get(system)
        return entry is None or language in entry["languages"]

    def learned_from(self, student: str, language: str) -> list[str]:
        """The languages whose text a student was distilled on."""
        corpus = self.corpus_of(self.distilled_by(student), language)
        return self.config["mixtures"].get(corpus, [corpus])

    def runs(self, languages: list[str] | None = None) -> list[tuple[str, str, int]]:
        """(task, system, seed) of every fine-tuning of the experiment, or of some languages."""
        experiment, tasks = self.config["experiment"], self.config["tasks"]
        return [
            (task, system, seed)
            for task in experiment["tasks"]
            if languages is None or tasks[task]["language"] in languages
            for system in experiment["systems"]
            if self.is_for(system, tasks[task]["language"])
            for seed in experiment["seeds"]
        ]

    def pairs(self, languages: list[str] | None = None) -> list[tuple[str, str]]:
        """(language, system) of every model of the experiment, or of some languages."""
        experiment = self.config["experiment"]
        return [
            (language, system)
            for language in experiment["languages"]
            if languages is None or language in languages
            for system in experiment["systems"]
            if self.is_for(system, language)
        ]

    def distillations(self) -> list[tuple[str, str]]:
        """(student, corpus) of every distillation of the experiment, each once."""
        students = self.config["students"]
        trained = [
            (self.distilled_by(system), language)
            for language, system in self.pairs()
            if system in students and students[system]["training"]["steps"] != 0
        ]
        return list(dict.fromkeys((name, self.corpus_of(name, code)) for name, code in trained))

    def released(self) -> list[tuple[str, str]]:
        """(student, language) of every model put together for the user."""
        experiment, students = self.config["experiment"], self.config["students"]
        names = experiment["release"] or [
            name
            for name in experiment["systems"]
            if name in students and students[name]["training"]["steps"] != 0
        ]
        return [
            (name, language)
            for name in names
            for language in experiment["languages"]
            if self.is_for(name, language)
        ]

    def vocabulary_rules(self) -> list[tuple[str, str, str]]:
        """(corpus, teacher, rule) of every cut or amplified vocabulary of the experiment, each
        once."""
        cuts = []
        for language, system in self.pairs():
            entry = self.config["students"].get(system) or self.config["systems"].get(system) or {}
            if entry.get("vocabulary") == "amplified":
                corpus = self.corpus_of(system, language)
                cuts.append((corpus, entry["teacher"], entry["amplification"]))
            elif entry.get("rule"):
                corpus = language
                if entry.get("vocabulary") == "pre":
                    corpus = self.corpus_of(system, language)
                cuts.append((corpus, entry["teacher"], entry["rule"]))
        return list(dict.fromkeys(cuts))
