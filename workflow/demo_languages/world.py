"""Write three invented languages with their dumps and tasks.

python -m demo_languages --seed 1 --articles 1000 --output resources/demo
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

from eliquare.io import atomic_dir
from eliquare.outputs import claimed

VERSION = 2
CODES = ("qaa", "qab", "qac")
DATE = "20260101"
SIZES = {
    "upos": {"train": 150, "dev": 100, "test": 300},
    "ner": {"train": 600, "dev": 100, "test": 350},
    "topic": {"train": 150, "dev": 100, "test": 300},
    "inference": {"train": 600, "dev": 150, "test": 360},
    "sentiment": {"train": 200, "dev": 100, "test": 300},
    "agreement": {"test": 200},
}
# The words of the validation and test splits; "held" if not said. Some names are famous.
SCORED_ON = {"ner": "all"}
SUFFIXES = {"upos": "conllu", "ner": "txt"}  # "tsv" if not said

README = """# The demo's world

Everything here is invented and was written by `python -m demo_languages` (seed {seed},
{articles} articles a language). No word of it is from a real language. The codes qaa, qab and qac
are reserved for local use (ISO 639-2).

| code | letters | word order |
|---|---|---|
| qaa | Latin | subject, verb, object; prepositions; articles |
| qab | Cyrillic | free; cases; prepositions |
| qac | Devanagari | verb last; postpositions |

- `mirror/`: MediaWiki dumps with the host's checksum lists, under the host's paths.
- `tasks/<code>/upos`: CoNLL-U, parts of speech (no dependencies).
- `tasks/<code>/ner`: "token TAG" lines, IOB2, PER, LOC and ORG.
- `tasks/<code>/topic`, `sentiment`: columns text and label.
- `tasks/<code>/inference`: columns premise, hypothesis and label.
- `tasks/<code>/agreement`: minimal pairs, columns good and bad (the verb has the other number).

One grammar made all sentences together with their annotation, so that the annotation has no errors.
All words occur in the dump. Half of the nouns, verbs, adjectives, adverbs and names occur in the
training splits of the tasks, the other half in their validation and test splits: what a model knows
of those it knows from pre-training. Names in the test splits are of both halves.
"""


def files(codes: Iterable[str] = CODES) -> list[str]:
    """Return the files that the stage writes, relative to its output folder."""
    names = ["README.md"]
    for code in codes:
        wiki = f"{code}wiki"
        names += [
            f"mirror/{wiki}/{DATE}/{wiki}-{DATE}-pages-articles.xml.bz2",
            f"mirror/{wiki}/{DATE}/{wiki}-{DATE}-sha1sums.txt",
            f"mirror/{wiki}/latest/{wiki}-latest-sha1sums.txt",
        ]
        names += [
            f"tasks/{code}/{task}/{split}.{SUFFIXES.get(task, 'tsv')}"
            for task, sizes in SIZES.items()
            for split in sizes
        ]
    return names


def not_negative(text: str) -> int:
    """Return a number of 0 or more."""
    if (number := int(text)) < 0:
        raise ValueError
    return number


def positive(text: str) -> int:
    """Return a number above 0."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    options = argparse.ArgumentParser(description="Write the demo's invented languages.")
    options.add_argument(
        "--seed", type=not_negative, default=1, help="seed of everything (default 1)"
    )
    options.add_argument(
        "--articles", type=positive, default=1000, help="articles in each dump (default 1000)"
    )
    options.add_argument("--output", required=True, help="folder to write")
    return options


def write_language(code: str, seed: int, articles: int, folder: Path) -> None:
    """Write the dump and the tasks of one language."""
    from demo_languages import lexicon, orthography, texts, treebank, wiki
    from demo_languages.articles import Writer
    from demo_languages.draw import Draw
    from demo_languages.speaker import Speaker

    language = orthography.LANGUAGES[code]
    words = lexicon.build(language, seed)
    views = {which: lexicon.View(words, which) for which in ("all", "known", "held")}
    writer = Writer(Speaker(views["all"], Draw(seed, code, "dump")))
    wiki.write(language, writer.pages(articles), folder / "mirror")
    for task, sizes in SIZES.items():
        for split, size in sizes.items():
            which = "known" if split == "train" else SCORED_ON.get(task, "held")
            speaker = Speaker(views[which], Draw(seed, code, task, split))
            path = folder / "tasks" / code / task / f"{split}.{SUFFIXES.get(task, 'tsv')}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if task == "upos":
                sentences = (speaker.sentence(speaker.context()) for _ in range(size))
                treebank.write(path, sentences, f"{code}-{split}")
            elif task == "ner":
                texts.write_ner(path, texts.with_names(speaker, size))
            elif task == "topic":
                texts.write_table(path, ("text", "label"), texts.topic_rows(speaker, size))
            elif task == "sentiment":
                texts.write_table(path, ("text", "label"), texts.sentiment_rows(speaker, size))
            elif task == "agreement":
                texts.write_table(path, ("good", "bad"), texts.agreement_rows(speaker, size))
            else:
                columns = ("premise", "hypothesis", "label")
                texts.write_table(path, columns, texts.inference_rows(speaker, size))


def run(arguments: argparse.Namespace) -> None:
    """Write all languages."""
    output = Path(arguments.output)
    with claimed("demo_languages", {"output": output}), atomic_dir(output) as folder:
        for code in CODES:
            write_language(code, arguments.seed, arguments.articles, folder)
            print(f"{code}: {arguments.articles} articles and {len(SIZES)} tasks written")
        readme = README.format(seed=arguments.seed, articles=arguments.articles)
        (folder / "README.md").write_text(readme, encoding="utf-8")
