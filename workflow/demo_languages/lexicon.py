"""The words of a language: classes, topics, inflected forms, synonyms, antonyms and names.

A lexeme that is ``held`` never occurs in the training split of a task, but does in the dump; the
other splits have no nouns, verbs, adjectives, adverbs and names but held ones. What a model knows
of these it knows from pre-training alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from demo_languages.draw import Draw, Pool
from demo_languages.orthography import CASES, NUMBERS, Language

Key = TypeVar("Key")

TOPICS = ("politics", "sports", "science", "travel", "health")
GENERAL = "general"
HELD_OPEN = 0.5
HELD_CLOSED = 0.35
NOUN_VERB_SHARE = 0.12
INFLECTED_FOR_CASE = ("NOUN", "PRON")

TOPIC_SIZES = {"NOUN": 8, "VERB": 4, "ADJ": 4}
GENERAL_SIZES = {"NOUN": 4, "VERB": 4, "ADJ": 4, "ADV": 4}
CLOSED_SIZES = {"ADP": 5, "CCONJ": 2, "SCONJ": 3, "PART": 4, "AUX": 4, "NUM": 4}
EVALUATIVE = 4
DETERMINERS = 3
PRONOUNS = 2
NAME_SIZES = {"first": 8, "last": 10, "place": 10, "month": 4, "title": 4, "head": 4}


class Token(NamedTuple):
    """A syntactic word with its annotation. ``feats`` is in CoNLL-U's form."""

    form: str
    lemma: str
    upos: str
    feats: str = "_"


@dataclass(eq=False)
class Lexeme:
    """A word with all its forms.

    ``forms`` has the keys (gender, number, case) for nouns and pronouns, (gender, number) for what
    agrees with them, and () for a word of one form.
    """

    upos: str
    lemma: str
    forms: dict[tuple[str, ...], Token]
    topic: str = GENERAL
    gender: str = ""
    polarity: str = ""
    stem: str = ""
    held: bool = False
    synonym: "Lexeme | None" = None
    antonym: "Lexeme | None" = None

    @property
    def word(self) -> Token:
        """Return the only form of a word that does not inflect."""
        return self.forms[()]


@dataclass
class Lexicon:
    """All lexemes of a language, by class, topic and use."""

    language: Language
    open: dict[tuple[str, str], list[Lexeme]] = field(default_factory=dict)
    evaluative: dict[str, list[Lexeme]] = field(default_factory=dict)
    closed: dict[str, list[Lexeme]] = field(default_factory=dict)
    names: dict[str, list[Lexeme]] = field(default_factory=dict)
    contractions: dict[tuple[str, str], str] = field(default_factory=dict)


class View:
    """The pools from which sentences draw.

    ``words`` is "all"; "known", the lexemes that are not held; or "held", in which all words of
    open classes and all names are held ones.
    """

    def __init__(self, lexicon: Lexicon, words: str = "all") -> None:
        def pools(
            lists: Mapping[Key, list[Lexeme]], kept: tuple[bool, ...]
        ) -> dict[Key, Pool[Lexeme]]:
            return {
                key: Pool([lexeme for lexeme in lexemes if lexeme.held in kept])
                for key, lexemes in lists.items()
            }

        kept = {"all": (False, True), "known": (False,), "held": (True,)}[words]
        self.lexicon = lexicon
        self.language = lexicon.language
        self.open = pools(lexicon.open, kept)
        self.evaluative = pools(lexicon.evaluative, kept)
        self.names = pools(lexicon.names, kept)
        self.closed = pools(lexicon.closed, (False,) if words == "known" else (False, True))


class Builder:
    """Draws the words of one language; no two stems or particles are alike by accident."""

    def __init__(self, language: Language, seed: int) -> None:
        self.language = language
        self.draw = Draw(seed, language.code, "lexicon")
        self.taken: set[str] = set()

    def fresh(self, make: Callable[[], str]) -> str:
        """Return a word that no other lexeme has."""
        while True:
            word = make()
            if word not in self.taken:
                self.taken.add(word)
                return word

    def stem(self) -> str:
        """Return a stem of one to three syllables."""
        return self.fresh(lambda: self.language.stem(self.draw, self.draw.pick((1, 1, 2, 2, 2, 3))))

    def inflected(
        self, upos: str, topic: str, stem: str | None = None, polarity: str = ""
    ) -> Lexeme:
        """Return a noun, verb, adjective, pronoun or determiner with all its forms."""
        stem = stem or self.stem()
        genders = tuple(self.language.endings)
        gender = self.draw.pick(genders) if upos == "NOUN" else ""
        citation = stem + self.language.endings[gender or genders[0]][0]
        forms: dict[tuple[str, ...], Token] = {}
        for one in (gender,) if gender else genders:
            # Verbs and adjectives agree in number alone.
            endings = self.language.endings[genders[0] if upos in ("VERB", "ADJ") else one]
            for index in range(4 if upos in INFLECTED_FOR_CASE else 2):
                feats = {"Number": NUMBERS[index % 2]}
                if upos not in ("VERB", "ADJ"):
                    feats["Gender"] = one
                key: tuple[str, ...] = (one, NUMBERS[index % 2])
                if upos in INFLECTED_FOR_CASE:
                    feats["Case"] = CASES[index // 2]
                    key += (CASES[index // 2],)
                written = "|".join(f"{feat}={feats[feat]}" for feat in sorted(feats))
                forms[key] = Token(stem + endings[index], citation, upos, written)
        return Lexeme(upos, citation, forms, topic, gender, polarity, stem)

    def fixed(self, upos: str, word: str) -> Lexeme:
        """Return a word of one form."""
        return Lexeme(upos, word, {(): Token(word, word, upos)})

    def particles(self, upos: str, size: int) -> list[Lexeme]:
        """Return words of a closed class."""
        words = [self.fresh(lambda: self.language.particle(self.draw)) for _ in range(size)]
        return [self.fixed(upos, word) for word in words]

    def named(self, kind: str, size: int, syllables: tuple[int, ...]) -> list[Lexeme]:
        """Return names of one kind, capitalised in scripts that have capitals."""
        endings = self.language.name_endings[kind]
        draw = self.draw
        words = []
        for _ in range(size):
            word = self.fresh(
                lambda: self.language.capitalised(
                    self.language.stem(draw, draw.pick(syllables)) + draw.pick(endings)
                )
            )
            words.append(self.fixed("PROPN", word))
        return words


def pair_up(lexemes: list[Lexeme], relation: str) -> None:
    """Make neighbours synonyms or antonyms of each other."""
    for one, other in zip(lexemes[::2], lexemes[1::2], strict=False):
        setattr(one, relation, other)
        setattr(other, relation, one)


def hold(lexemes: list[Lexeme], share: float, draw: Draw) -> None:
    """Mark a share of the words as held, evenly over the ranks and never all of them.

    Synonyms and antonyms are held together, so that a pair is never half known.
    """
    owed = draw.uniform() * (1 - share)
    seen: set[int] = set()
    for lexeme in lexemes:
        if id(lexeme) in seen:
            continue
        owed += share
        pair = [lexeme, *filter(None, (lexeme.synonym, lexeme.antonym))]
        seen.update(id(one) for one in pair)
        if owed >= 1:
            owed -= 1
            for one in pair:
                one.held = True


def build(language: Language, seed: int) -> Lexicon:
    """Return the lexicon of a language for a seed."""
    builder = Builder(language, seed)
    draw = builder.draw
    lexicon = Lexicon(language)
    for topic in (*TOPICS, GENERAL):
        sizes = TOPIC_SIZES if topic != GENERAL else GENERAL_SIZES
        nouns = [builder.inflected("NOUN", topic) for _ in range(sizes["NOUN"])]
        # A verb of a noun's stem shares its forms: the same word, two parts of speech.
        stems = [
            noun.stem if draw.chance(NOUN_VERB_SHARE) else None for noun in draw.shuffled(nouns)
        ]
        verbs = [builder.inflected("VERB", topic, stem) for stem in stems[: sizes["VERB"]]]
        adjectives = [builder.inflected("ADJ", topic) for _ in range(sizes["ADJ"])]
        pair_up(nouns, "synonym")
        pair_up(verbs[: len(verbs) // 2], "synonym")
        pair_up(verbs[len(verbs) // 2 :], "antonym")
        pair_up(adjectives, "antonym")
        lexicon.open["NOUN", topic] = draw.shuffled(nouns)
        lexicon.open["VERB", topic] = draw.shuffled(verbs)
        lexicon.open["ADJ", topic] = draw.shuffled(adjectives)
    lexicon.open["ADV", GENERAL] = adverbs(builder, lexicon)
    for polarity in ("positive", "negative"):
        lexicon.evaluative[polarity] = [
            builder.inflected("ADJ", GENERAL, polarity=polarity) for _ in range(EVALUATIVE)
        ]
    for upos, size in CLOSED_SIZES.items():
        lexicon.closed[upos] = builder.particles(upos, size)
    # Two adpositions also begin clauses, and one auxiliary is also a particle of emphasis.
    for lexeme in lexicon.closed["ADP"][2:4]:
        lexicon.closed["SCONJ"].append(builder.fixed("SCONJ", lexeme.lemma))
    demonstratives = [builder.inflected("DET", GENERAL) for _ in range(DETERMINERS)]
    lexicon.closed["DET"] = demonstratives
    # Determiners that stand alone are pronouns of the same form.
    own = [builder.inflected("PRON", GENERAL) for _ in range(PRONOUNS)]
    same = [builder.inflected("PRON", GENERAL, lexeme.stem) for lexeme in demonstratives[1:3]]
    lexicon.closed["PRON"] = own + same
    add_names(builder, lexicon)
    add_contractions(lexicon)
    for lexemes in (*lexicon.open.values(), *lexicon.evaluative.values(), *lexicon.names.values()):
        hold(lexemes, HELD_OPEN, draw)
    for lexemes in lexicon.closed.values():
        # The first words of a closed class have fixed jobs in the grammar: each split has them.
        hold(lexemes[1:], HELD_CLOSED, draw)
    return lexicon


def adverbs(builder: Builder, lexicon: Lexicon) -> list[Lexeme]:
    """Return the adverbs: words of their own, and some like an adjective's citation form."""
    adjectives = [
        lexeme
        for (upos, _), lexemes in sorted(lexicon.open.items())
        if upos == "ADJ"
        for lexeme in lexemes
    ]
    alike = GENERAL_SIZES["ADV"] // 4
    ending = next(iter(builder.language.endings.values()))[0]
    words = [builder.stem() + ending for _ in range(GENERAL_SIZES["ADV"] - alike)]
    words += [lexeme.lemma for lexeme in builder.draw.shuffled(adjectives)[:alike]]
    return builder.draw.shuffled([builder.fixed("ADV", word) for word in words])


def add_names(builder: Builder, lexicon: Lexicon) -> None:
    """Add first names, surnames, places, months, titles and heads of organisations. names."""
    names, language, draw = lexicon.names, lexicon.language, builder.draw
    for kind in ("first", "last", "place"):
        names[kind] = builder.named(kind, NAME_SIZES[kind], (1, 2, 2))
    # Some surnames are places as well: only the context tells.
    names["last"] += [builder.fixed("PROPN", lexeme.lemma) for lexeme in names["place"][::10]]
    names["last"] = draw.shuffled(names["last"])
    months = "PROPN" if language.code == "qaa" else "NOUN"
    for kind, upos in (("month", months), ("title", "NOUN"), ("head", "PROPN")):
        words = []
        for _ in range(NAME_SIZES[kind]):
            word = builder.stem() + language.endings["Masc"][0]
            word = language.capitalised(word) if upos == "PROPN" else word
            words.append(builder.fixed(upos, word))
        names[kind] = words


def add_contractions(lexicon: Lexicon) -> None:
    """Add contractions: adposition and determiner, or negation and auxiliary, written as one."""
    closed = lexicon.closed
    if lexicon.language.postpositions:
        firsts, seconds = closed["PART"][:1], closed["AUX"][:3]
    else:
        firsts, seconds = closed["ADP"][:2], closed["DET"][:1]
    for first in firsts:
        for second in seconds:
            for token in second.forms.values():
                surface = first.lemma + token.form[1:]
                if surface not in (first.lemma, token.form):
                    lexicon.contractions[first.lemma, token.form] = surface
