"""From meaning to words: phrases, propositions and their realisation in one language."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from demo_languages.draw import Draw
from demo_languages.lexicon import Lexeme, Lexicon, Token
from demo_languages.sentence import Sentence

Tagged = list[tuple[Token, str]]
COMMA = Token(",", ",", "PUNCT")


@dataclass(frozen=True)
class Name:
    """A name of a person (PER), place (LOC) or organisation (ORG), or of nothing tagged ("O")."""

    kind: str
    tokens: tuple[Token, ...]
    title: Token | None = None

    def tagged(self) -> Tagged:
        """Return its tokens with IOB2 tags; a title stands outside the entity."""
        result: Tagged = [(self.title, "O")] if self.title else []
        for position, token in enumerate(self.tokens):
            result.append((token, f"{'I' if position else 'B'}-{self.kind}"))
        return result


@dataclass(frozen=True)
class Phrase:
    """A noun phrase: a noun with what belongs to it, a name, or a pronoun."""

    noun: Lexeme | None = None
    name: Name | None = None
    pronoun: Lexeme | None = None
    gender: str = ""
    number: str = "Sing"
    adjective: Lexeme | None = None
    determiner: Lexeme | None = None
    numeral: Token | None = None


@dataclass(frozen=True)
class Proposition:
    """What a clause says. Either a verb with its object, or an attribute of the subject."""

    subject: Phrase
    verb: Lexeme | None = None
    object: Phrase | None = None
    attribute: Lexeme | None = None
    adverb: Lexeme | None = None
    place: tuple[Lexeme, Phrase] | None = None
    date: tuple[Token, ...] = ()
    auxiliary: Lexeme | None = None
    negated: bool = False


@dataclass
class Grammar:
    """Puts propositions into words.

    The closed classes' first members have fixed jobs: PART 0 negates, PART 1 marks the passive,
    PART 2 says the same again and PART 3 says the contrary; AUX 0 is the copula; ADP 0 stands
    with dates and with the agent of a passive.
    """

    lexicon: Lexicon
    draw: Draw
    roles: dict[str, Token] = field(init=False)

    def __post_init__(self) -> None:
        closed = self.lexicon.closed
        self.language = self.lexicon.language
        self.roles = {
            "not": closed["PART"][0].word,
            "passive": closed["PART"][1].word,
            "same": closed["PART"][2].word,
            "contrary": closed["PART"][3].word,
            "copula": closed["AUX"][0].word,
            "by": closed["ADP"][0].word,
        }
        self.first_gender = next(iter(self.language.endings))

    def phrase(self, phrase: Phrase, case: str) -> Tagged:
        """Return a noun phrase in a case."""
        if phrase.name:
            return phrase.name.tagged()
        agreement = (phrase.gender, phrase.number)
        if phrase.pronoun:
            return [(phrase.pronoun.forms[*agreement, case], "O")]
        assert phrase.noun is not None
        words = [phrase.noun.forms[*agreement, case]]
        if phrase.adjective:
            first = self.draw.chance(self.language.adjective_first)
            words.insert(0 if first else 1, phrase.adjective.forms[agreement])
        if phrase.numeral:
            words.insert(0, phrase.numeral)
        if phrase.determiner:
            words.insert(0, phrase.determiner.forms[agreement])
        return [(word, "O") for word in words]

    def adposition(self, word: Token, words: Tagged) -> Tagged:
        """Return an adposition before or after its phrase, as the language has it."""
        return [*words, (word, "O")] if self.language.postpositions else [(word, "O"), *words]

    def clause(self, meaning: Proposition, passive: bool = False, elided: bool = False) -> Tagged:
        """Return a clause without its final punctuation; an elided one leaves out its verb."""
        subject = self.phrase(meaning.subject, "Nom")
        verbs = [] if elided else self.verbs(meaning, passive)
        objects: Tagged = []
        if meaning.object:
            objects = self.phrase(meaning.object, "Nom" if passive else "Acc")
        if passive:
            agent = self.adposition(self.roles["by"], self.phrase(meaning.subject, "Acc"))
            subject, objects = objects, agent
        parts = {"S": subject, "V": verbs, "O": objects}
        order = self.draw.pick(self.language.orders)
        pieces = [parts[part] for part in order]
        adjuncts = []
        if meaning.place:
            adposition, phrase = meaning.place
            adjuncts.append(self.adposition(adposition.word, self.phrase(phrase, "Acc")))
        if meaning.date:
            date = [(token, "O") for token in meaning.date]
            adjuncts.append(self.adposition(self.roles["by"], date))
        for adjunct in adjuncts:
            if self.language.auxiliary_last:
                # The verb stays last.
                pieces.insert(0, adjunct)
            else:
                pieces.insert(0 if self.draw.chance(0.2) else len(pieces), adjunct)
        return [pair for piece in pieces for pair in piece]

    def verbs(self, meaning: Proposition, passive: bool) -> Tagged:
        """Return the verb or attribute with its helpers, agreeing with the subject."""
        doer = meaning.object if passive and meaning.object else meaning.subject
        agreement = (doer.gender or self.first_gender, doer.number)
        if meaning.verb:
            main = [meaning.verb.forms[agreement]]
            helper = [meaning.auxiliary.word] if meaning.auxiliary else []
        else:
            assert meaning.attribute is not None
            main = [meaning.attribute.forms[agreement]]
            helper = [self.roles["copula"]]
        if passive:
            helper.append(self.roles["passive"])
        if meaning.adverb:
            main.insert(0, meaning.adverb.word)
        if self.language.auxiliary_last:
            helper = [self.roles["not"], *helper] if meaning.negated else helper
            words = main + helper
        else:
            words = ([self.roles["not"]] if meaning.negated else []) + helper + main
        return [(word, "O") for word in words]

    def sentence(
        self, words: Tagged, end: str, empty: Sequence[tuple[int, Token]] = ()
    ) -> Sentence:
        """Close a sentence: final punctuation and contractions."""
        words = [*words, (Token(end, end, "PUNCT"), "O")]
        tokens = [token for token, _ in words]
        result = Sentence(tokens, [tag for _, tag in words], empty=list(empty))
        contractions = self.lexicon.contractions
        for position, (one, other) in enumerate(itertools.pairwise(tokens)):
            surface = contractions.get((one.lemma, other.form))
            if surface and one.upos in ("ADP", "PART") and other.upos in ("DET", "AUX"):
                result.contracted[position] = surface
        return result


def synonymous(meaning: Proposition) -> Proposition:
    """Return the same meaning with synonyms, wherever there are some."""

    def other(phrase: Phrase) -> Phrase:
        if not phrase.noun or not phrase.noun.synonym:
            return phrase
        noun = phrase.noun.synonym
        return replace(phrase, noun=noun, gender=noun.gender)

    verb = meaning.verb
    return replace(
        meaning,
        subject=other(meaning.subject),
        object=other(meaning.object) if meaning.object else None,
        verb=verb.synonym if verb and verb.synonym else verb,
    )


def contrary(meaning: Proposition, negate: bool) -> Proposition:
    """Return the contrary: by an antonym where there is one, unless asked to negate."""
    if not negate:
        if meaning.verb and meaning.verb.antonym:
            return replace(meaning, verb=meaning.verb.antonym)
        if meaning.attribute and meaning.attribute.antonym:
            return replace(meaning, attribute=meaning.attribute.antonym)
    return replace(meaning, negated=not meaning.negated)
