"""Tasks on whole texts and names: NER, topic, sentiment and inference."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from demo_languages.grammar import Proposition, contrary, synonymous
from demo_languages.lexicon import TOPICS
from demo_languages.orthography import NUMBERS
from demo_languages.sentence import Sentence
from demo_languages.speaker import STANCES, Speaker

INFERENCE = ("entailment", "neutral", "contradiction")


def write_ner(path: Path, sentences: Iterable[Sentence]) -> None:
    """Write "token TAG" lines (IOB2), a blank line after each sentence."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for sentence in sentences:
            for surface in sentence.surfaces():
                file.write(f"{surface.form} {surface.tag}\n")
            file.write("\n")


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write tab-separated columns with a header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def with_names(speaker: Speaker, size: int) -> Iterable[Sentence]:
    """Yield sentences for NER: three in four hold a name."""
    found = 0
    while found < size:
        sentence = speaker.sentence(speaker.context())
        if any(tag != "O" for tag in sentence.tags) or speaker.draw.chance(0.25):
            found += 1
            yield sentence


def topic_rows(speaker: Speaker, size: int) -> Iterable[tuple[str, str]]:
    """Yield texts of two sentences and their topic, the topics in turn."""
    for number in range(size):
        topic = TOPICS[number % len(TOPICS)]
        sentences = speaker.paragraph(speaker.context(topic), 2)[:2]
        yield " ".join(sentence.text for sentence in sentences), topic


def sentiment_rows(speaker: Speaker, size: int) -> Iterable[tuple[str, str]]:
    """Yield two judgements in one text, and whether they praise or blame."""
    for number in range(size):
        stance = STANCES[number % 2]
        context = speaker.context(stance=stance)
        texts = [
            speaker.plain(speaker.judgement(context)).text,
            speaker.plain(speaker.judgement(context)).text,
        ]
        yield " ".join(texts), stance


def agreement_rows(speaker: Speaker, size: int) -> Iterable[tuple[str, str]]:
    """Yield a sentence, and the same with its verb in the number that its subject has not."""
    while size:
        meaning = speaker.proposition(speaker.context())
        subject, verb = meaning.subject, meaning.verb
        if subject.noun is None or verb is None:
            continue
        other = NUMBERS[subject.number == NUMBERS[0]]
        right, wrong = (verb.forms[subject.gender, each] for each in (subject.number, other))
        sentence = speaker.plain(meaning)
        place = sentence.words.index(right)
        words = [*sentence.words[:place], wrong, *sentence.words[place + 1 :]]
        yield sentence.text, replace(sentence, words=words).text
        size -= 1


def inference_rows(speaker: Speaker, size: int) -> Iterable[tuple[str, str, str]]:
    """Yield premise, hypothesis, label; the labels in turn.

    Entailment: the same in other words, or less. Contradiction: an antonym or a negation.
    Neutral: another action or judgement about the same subject.
    """
    draw = speaker.draw
    for number in range(size):
        label = INFERENCE[number % len(INFERENCE)]
        context = speaker.context()
        premise = replace(speaker.proposition(context), negated=draw.chance(0.3))
        hypothesis = related(speaker, premise, label)
        passive = speaker.can_be_passive(hypothesis) and draw.chance(0.3)
        texts = speaker.plain(premise).text, speaker.plain(hypothesis, passive).text
        yield *texts, label


def related(speaker: Speaker, premise: Proposition, label: str) -> Proposition:
    """Return a hypothesis that stands in the asked relation to the premise."""
    draw = speaker.draw
    shorter = replace(premise, place=None, date=()) if draw.chance(0.5) else premise
    if label == "entailment":
        return synonymous(shorter) if draw.chance(0.7) else shorter
    if label == "contradiction":
        return contrary(shorter, negate=draw.chance(0.5))
    while True:
        other = replace(
            speaker.proposition(speaker.context(draw.pick(TOPICS))),
            subject=premise.subject,
            negated=draw.chance(0.3),
        )
        if (other.verb, other.attribute) != (premise.verb, premise.attribute):
            return other
