"""Names to paths: where every result of a configuration is, below ``results/``.

Corpora, teachers, students, systems, fine-tuned models and benchmarks are shared: no experiment is
in their path, so that two experiments which name the same student share it. ``results/<name>/``
holds what one experiment compares and people read.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from eliquare.config import catalogue
from eliquare.config.export import Export
from eliquare.config.model import Configuration, Student
from eliquare.config.sources import EMBEDDED, SPLITS, UNTRAINED
from eliquare.config.systems import System, TaskDistillation
from eliquare.config.tasks import Task

DUMPS = Path("resources/dumps")
DEMO = Path("resources/demo")
# The name of the vocabulary that nothing was taken from and nothing added to.
FULL = "full"


class Paths:
    """The paths of one completed configuration.

    Attributes:
        results: The folder of all results.
        store: The folder of all fine-tuned systems, which experiments share.
        costs: The folder with the time and memory of every job.
        experiment: The folder of scores, tables, figures, models and report.
        settings_file: The file with the completed settings of the experiment.
    """

    def __init__(self, settings: Configuration, results: str | Path = "results") -> None:
        self.settings = settings
        self.results = Path(results) / "smoke" if settings.smoke else Path(results)
        self.store = self.results / "finetuned"
        self.costs = self.results / "costs"
        self.experiment = self.results / settings.name
        self.settings_file = self.experiment / "settings.json"

    # Corpora

    def documents(self, corpus: str) -> Path:
        """Return the documents folder of a language or a mixture."""
        return self.results / "corpora" / corpus / "documents"

    def wiki(self, language: str) -> str:
        """Return the database name of a language's Wikipedia."""
        given = self.settings.languages[language].corpus.wiki
        listed = catalogue.languages().get(language)
        known = given or (listed.dbname if listed else "")
        return known or f"{language.replace('-', '_')}wiki"

    def dump(self, language: str) -> Path:
        """Return the dump of a language: a file on disk, or a download."""
        corpus = self.settings.languages[language].corpus
        download = f"{self.wiki(language)}-{corpus.date}-pages-articles.xml.bz2"
        return Path(corpus.file) if corpus.file else DUMPS / download

    def prepared(self, corpus: str, teacher: str, vocabulary: str) -> Path:
        """Return the folder of sequences, counts and masking: a corpus through one tokenizer."""
        return self.results / "corpora" / corpus / self.root_teacher(teacher) / vocabulary

    def held_out(self, corpus: str) -> Path:
        """Return the file with sentences of a corpus's validation documents."""
        return self.results / "corpora" / corpus / "held_out.txt"

    def retrieval(self, corpus: str) -> Path:
        """Return the table with titles of a corpus's validation documents, and their texts."""
        return self.results / "corpora" / corpus / "retrieval.tsv"

    # Vocabularies

    def vocabulary_file(self, corpus: str, teacher: str, vocabulary: str) -> Path:
        """Return the file of the selected tokens."""
        return self.prepared(corpus, teacher, vocabulary) / "vocabulary.csv"

    def vocabulary_report(self, corpus: str, teacher: str, vocabulary: str) -> Path:
        """Return the report of a reduced or extended teacher."""
        return self.results / "corpora" / corpus / teacher / vocabulary / "vocabulary.json"

    def extended_from(self, vocabulary: str) -> str:
        """Return the vocabulary that an extension adds tokens to; of another one, itself."""
        extension = self.settings.extensions.get(vocabulary)
        return (extension.vocabulary or FULL) if extension else vocabulary

    def vocabularies(self) -> list[tuple[str, str, str]]:
        """Return (corpus, teacher, vocabulary) of every reduced or extended teacher compared."""
        found = []
        for language, name in self.pairs():
            entry, corpus = self.entry(name), language
            vocabulary = entry and (getattr(entry, "extension", None) or entry.vocabulary)
            if isinstance(entry, Student) and not entry.reduced_from:
                corpus = self.corpus_of(name, language)
            if entry and entry.teacher and vocabulary:
                found.append((corpus, entry.teacher, vocabulary))
            teacher = entry.teacher if entry else name
            if isinstance(entry, Student):
                _, corpus = self.origin(name, language)
            for each in self.adapted_from(teacher) if teacher else ():
                adapted = self.settings.teachers[each]
                if adapted.teacher and adapted.starts_from:
                    own = adapted.corpus or corpus
                    found.append((own, adapted.teacher, adapted.starts_from))
        return list(dict.fromkeys(found))

    # Teachers

    def root_teacher(self, teacher: str) -> str:
        """Return the teacher whose tokenizer this one has.

        Itself, or the one it continues; one that continues with other tokens has its own.
        """
        entry = self.settings.teachers[teacher]
        if entry.source == "adapt" and entry.teacher and not entry.starts_from:
            return self.root_teacher(entry.teacher)
        return teacher

    def adapted_from(self, teacher: str) -> list[str]:
        """Return a teacher, and those that it continues, one after the other."""
        entry = self.settings.teachers[teacher]
        before = self.adapted_from(entry.teacher) if entry.teacher else []
        return [teacher, *before]

    def start_of(self, corpus: str, teacher: str) -> Path:
        """Return the model that an adapted teacher continues, with other tokens if it has any."""
        entry = self.settings.teachers[teacher]
        return self.teacher(corpus, entry.teacher or "", entry.starts_from or FULL)

    def teacher(self, corpus: str, teacher: str, vocabulary: str = FULL) -> Path:
        """Return the model folder of a teacher; adapted and reduced ones belong to a corpus."""
        entry = self.settings.teachers[teacher]
        if vocabulary == FULL and entry.source != "adapt":
            return self.results / "teachers" / teacher / "model"
        if vocabulary == FULL:
            corpus = entry.corpus or corpus
        return self.results / "corpora" / corpus / teacher / vocabulary / "model"

    def tokenizer(self, corpus: str, teacher: str, vocabulary: str) -> Path:
        """Return the folder with a teacher's tokenizer, in full or reduced to a corpus."""
        root = self.root_teacher(teacher)
        entry = self.settings.teachers[root]
        if vocabulary == FULL and entry.source == "pretrain":
            return self.results / "teachers" / root / "tokenizer"
        if vocabulary == FULL and entry.teacher and entry.starts_from:
            return self.tokenizer(entry.corpus or corpus, entry.teacher, entry.starts_from)
        return self.teacher(corpus, root, vocabulary)

    # Students

    def student(self, student: str, corpus: str) -> Path:
        """Return the model folder of a student: distilled, or reduced after its distillation."""
        return self.results / "students" / student / corpus / "model"

    def corpus_of(self, student: str, language: str) -> str:
        """Return the corpus that a student is distilled on."""
        return self.settings.students[student].corpus or language

    def vocabulary_of(self, student: str) -> str:
        """Return the vocabulary of a student's distillation."""
        recipe = self.settings.students[student]
        return recipe.extension or (not recipe.reduced_from and recipe.vocabulary) or FULL

    def teachers_of(self, student: str) -> list[str]:
        """Return the teachers of a student: its own, then the others by name."""
        recipe = self.settings.students[student]
        own = recipe.teacher or ""
        return [own, *sorted(name for name in recipe.teachers if name != own)]

    def teacher_models(self, student: str, corpus: str) -> list[Path]:
        """Return the model folders of a student's teachers, its own first."""
        vocabulary = self.extended_from(self.vocabulary_of(student))
        return [self.teacher(corpus, name, vocabulary) for name in self.teachers_of(student)]

    def first_model(self, student: str) -> Path:
        """Return the model that all of a student's teachers come from, with its terms."""
        own = self.teachers_of(self.original_of(student))[0]
        return self.results / "teachers" / self.adapted_from(own)[-1] / "model"

    def original_of(self, student: str) -> str:
        """Return the student that was distilled: this one, or the one it is reduced from."""
        return self.settings.students[student].reduced_from or student

    def is_distilled(self, student: str) -> bool:
        """Return whether a student is trained at all."""
        return self.settings.students[student].training.max_steps != 0

    def origin(self, student: str, language: str) -> tuple[str, str]:
        """Return (student, corpus) of the distillation that a student comes from."""
        original = self.original_of(student)
        return original, self.corpus_of(original, language)

    def verification(self, student: str, language: str) -> Path:
        """Return the comparison of a student reduced after its distillation with its original."""
        return self.student(student, language).with_name("verification.json")

    def training_languages(self, student: str, language: str) -> list[str]:
        """Return the languages whose text a student was distilled on."""
        _, corpus = self.origin(student, language)
        return self.settings.members(corpus)

    # Any system

    def entry(self, system: str) -> Student | System | None:
        """Return the settings of a student or another system; None for a teacher."""
        return self.settings.students.get(system) or self.settings.systems.get(system)

    def model(self, system: str, language: str) -> Path:
        """Return the model folder of a teacher, a student or another system for a language."""
        system = self.untaught(system)
        entry = self.entry(system)
        if entry is None:
            return self.teacher(language, system)
        if isinstance(entry, System):
            if entry.teacher and entry.vocabulary:
                return self.teacher(language, entry.teacher, entry.vocabulary)
            return self.results / "systems" / system / "model"
        if entry.reduced_from:
            # One multilingual student can be reduced for each language.
            return self.student(system, language)
        return self.student(system, self.corpus_of(system, language))

    def untaught(self, system: str) -> str:
        """Return the system itself, or the student that is fine-tuned with a teacher of the task.

        Both are one model before they are fine-tuned.
        """
        entry = self.settings.systems.get(system)
        return (entry and entry.student) or system

    def task_distillation(self, system: str) -> TaskDistillation | None:
        """Return how a system is taught on tasks, if it is."""
        entry = self.settings.systems.get(system)
        return entry.task_distillation if entry else None

    def unlabelled(self, system: str, language: str) -> Path | None:
        """Return the sentences that the teacher of a task labels, for it and those it teaches.

        A system takes the first of them, as many as it wants.
        """
        taught = self.task_distillation(system)
        if taught and not taught.sentences:
            return None
        pupils = self.taught_by(taught.teacher if taught else system, language)
        number = max((each.sentences for each in pupils), default=0)
        file = self.results / "corpora" / language / f"unlabelled-{number}.txt"
        return file if number else None

    def taught_by(self, teacher: str, language: str) -> list[TaskDistillation]:
        """Return how a fine-tuned teacher teaches each of the compared systems of a language."""
        found = [self.task_distillation(name) for _, name in self.pairs([language])]
        return [each for each in found if each and each.teacher == teacher]

    def is_for(self, system: str, language: str) -> bool:
        """Return whether a system is meant for a language."""
        entry = self.entry(system)
        return entry is None or language in entry.languages

    def finetuned(self, task: str, system: str, seed: int) -> Path:
        """Return the folder of one fine-tuning: its predictions, metrics and time."""
        return self.store / task / system / f"seed-{seed}"

    def benchmark(self, language: str, system: str) -> Path:
        """Return the sizes and speeds of a system."""
        return self.results / "benchmarks" / language / f"{self.untaught(system)}.json"

    # The experiment

    def scores(self, language: str, system: str) -> Path:
        """Return the scores of a system on the experiment's tasks in a language."""
        return self.experiment / "scores" / language / f"{system}.json"

    def predictions(self, task: str, system: str, seed: int) -> Path:
        """Return the answers of a fine-tuned system on the test split, a line for each example."""
        return self.finetuned(task, system, seed) / "predictions.jsonl"

    def intrinsic(self, language: str, system: str) -> Path:
        """Return the scores of a system in a language that need no labels and no fine-tuning."""
        return self.experiment / "intrinsic" / language / f"{self.untaught(system)}.json"

    def tasks(self, languages: Collection[str] | None = None) -> list[str]:
        """Return the tasks to fine-tune on: all of the experiment, or those of some languages."""
        return [name for name, kind in self._by_kind(languages) if kind not in UNTRAINED]

    def untrained(self, languages: Collection[str] | None = None) -> list[str]:
        """Return the tasks of pairs of texts, which nothing is trained on."""
        return [name for name, kind in self._by_kind(languages) if kind in UNTRAINED]

    def minimal_pairs(self, languages: Collection[str] | None = None) -> list[str]:
        """Return the tasks of minimal pairs: all of the experiment, or those of some languages."""
        return [name for name, kind in self._by_kind(languages) if kind == "minimal_pairs"]

    def topics(self, languages: Collection[str] | None = None) -> list[str]:
        """Return the tasks of single texts with a label, which frozen embeddings are scored on."""
        return [name for name, kind in self._by_kind(languages) if kind == "classification"]

    def embedded_pairs(self, languages: Collection[str] | None = None) -> list[str]:
        """Return the tasks of pairs that embeddings are scored on: retrieval and similarity."""
        return [name for name, kind in self._by_kind(languages) if kind in EMBEDDED]

    def embedded(self, languages: Collection[str] | None = None) -> list[str]:
        """Return the tasks that frozen embeddings are scored on."""
        kinds = ("classification", *EMBEDDED)
        return [name for name, kind in self._by_kind(languages) if kind in kinds]

    def _by_kind(self, languages: Collection[str] | None) -> Iterator[tuple[str, str]]:
        for name in self.settings.experiment.tasks or []:
            task = self.settings.tasks[name]
            if languages is None or task.language in languages:
                yield name, task.kind

    def task_inputs(
        self, languages: Collection[str], splits: Collection[str] = SPLITS
    ) -> list[str]:
        """Return what holds these splits of tasks: files in place, and folders that are fetched."""
        return self._inputs(self.tasks(languages), splits)

    def intrinsic_inputs(self, languages: Collection[str]) -> list[str]:
        """Return what holds the tasks that are scored without fine-tuning."""
        return [
            *self._inputs(self.untrained(languages), ["test"]),
            *self._inputs(self.topics(languages), SPLITS),
        ]

    def _inputs(self, tasks: Iterable[str], splits: Collection[str]) -> list[str]:
        found: list[str | None] = []
        for task in (self.settings.tasks[name] for name in tasks):
            files = [getattr(task, split) for split in splits]
            found += {str(Path(file).parent) for file in files} if task.fetched else files
        return list(dict.fromkeys(filter(None, found)))

    def fetched_tasks(self) -> dict[str, Task]:
        """Return a task of each folder that is fetched, by the folder's name."""
        tasks = [task for task in self.settings.tasks.values() if task.fetched]
        # Of tasks with one source, one that must be there decides.
        tasks.sort(key=lambda task: not task.optional)
        return {Path(task.fetched["test"]).parent.name: task for task in tasks}

    def pairs(self, languages: Collection[str] | None = None) -> list[tuple[str, str]]:
        """Return (language, system) of every model compared, or of some languages."""
        experiment = self.settings.experiment
        return [
            (language, system)
            for language in experiment.languages
            if languages is None or language in languages
            for system in experiment.systems
            if self.is_for(system, language)
        ]

    def evaluations(self, languages: Collection[str] | None = None) -> list[tuple[str, str]]:
        """Return (language, system) of every model compared that has a task in its language."""
        return [pair for pair in self.pairs(languages) if self.tasks([pair[0]])]

    def benchmarked(self, languages: Collection[str] | None = None) -> list[tuple[str, str]]:
        """Return (language, system) of every model measured: one seed of each student."""
        return [pair for pair in self.pairs(languages) if "@" not in pair[1]]

    def distillations(self) -> dict[tuple[str, str], list[str]]:
        """Return (student, corpus) of every distillation, each with the systems that come of it."""
        found: dict[tuple[str, str], list[str]] = {}
        for language, name in self.pairs():
            if name in self.settings.students and self.is_distilled(self.original_of(name)):
                found.setdefault(self.origin(name, language), []).append(name)
        return found

    def reductions(self) -> list[tuple[str, str]]:
        """Return (student, language) of every student reduced after its distillation."""
        return [
            (name, language)
            for language, name in self.pairs()
            if name in self.settings.students and self.settings.students[name].reduced_from
        ]

    def released(self) -> list[tuple[str, str]]:
        """Return (student, language) of every model put together for people, one seed of each."""
        experiment = self.settings.experiment
        names = experiment.release or [
            name
            for name in experiment.systems
            if name in self.settings.students and self.is_distilled(name) and "@" not in name
        ]
        return [
            (name, language)
            for name in names
            for language in experiment.languages
            if self.is_for(name, language)
        ]

    def export(self, student: str) -> Export | None:
        """Return what is asked for beside a student; None for other systems and further seeds."""
        entry = self.settings.students.get(student)
        return entry.export if entry and (student in dict(self.released())) else None

    def exports(self, student: str, language: str) -> Path:
        """Return the folder of a student's other forms."""
        return self.experiment / "exports" / f"{student}-{language}"

    def kept_tasks(self, student: str, language: str) -> list[str]:
        """Return the tasks in a language whose fine-tuned models of a student are kept."""
        asked = self.export(student)
        return [name for name in self.tasks([language]) if asked and name in asked.tasks]

    def exported_on(self, student: str, language: str) -> list[str]:
        """Return the tasks of an export: those kept, or all for static embeddings."""
        asked = self.export(student)
        static = asked is not None and "static" in asked.formats
        return self.tasks([language]) if static else self.kept_tasks(student, language)

    def export_inputs(self, student: str, language: str) -> list[str]:
        """Return what holds the tasks of an export."""
        return self._inputs(self.exported_on(student, language), SPLITS)
