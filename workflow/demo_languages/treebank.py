"""Treebanks in CoNLL-U: part-of-speech tags, lemmas and features; no dependencies."""

from collections.abc import Iterable
from pathlib import Path

from demo_languages.lexicon import Token
from demo_languages.sentence import Sentence


def line(identifier: str, token: Token | None, form: str, misc: str = "_") -> str:
    """Return one of CoNLL-U's ten-column lines; a multiword token has no word of its own."""
    if token is None:
        columns = [identifier, form, *"_______", misc]
    else:
        columns = [identifier, form, token.lemma, token.upos, "_", token.feats, *"___", misc]
    return "\t".join(columns)


def conllu(sentence: Sentence, identifier: str) -> str:
    """Return a sentence as a block of CoNLL-U, with multiword tokens and empty nodes."""
    lines = [f"# sent_id = {identifier}", f"# text = {sentence.text}"]
    empty: dict[int, Token] = dict(sentence.empty)
    for surface in sentence.surfaces():
        last = surface.first + surface.words == len(sentence.words)
        misc = "_" if surface.space_after or last else "SpaceAfter=No"
        start = surface.first + 1
        if surface.words > 1:
            lines.append(line(f"{start}-{start + 1}", None, surface.form, misc))
            misc = "_"
        for number in range(start, start + surface.words):
            word = sentence.words[number - 1]
            lines.append(line(str(number), word, word.form, misc))
            if number in empty:
                elided = empty[number]
                lines.append(line(f"{number}.1", elided, elided.form))
    return "\n".join(lines) + "\n\n"


def write(path: Path, sentences: Iterable[Sentence], prefix: str) -> None:
    """Write sentences as one CoNLL-U file."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for number, sentence in enumerate(sentences, start=1):
            file.write(conllu(sentence, f"{prefix}-{number}"))
