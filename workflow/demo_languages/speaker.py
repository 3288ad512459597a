"""What is said: propositions and sentences about a topic, drawn at random."""

from dataclasses import dataclass, replace

from demo_languages.draw import Draw
from demo_languages.grammar import (
    COMMA,
    Grammar,
    Name,
    Phrase,
    Proposition,
    Tagged,
    contrary,
    synonymous,
)
from demo_languages.lexicon import GENERAL, TOPICS, Lexeme, Token, View
from demo_languages.orthography import NUMBERS
from demo_languages.sentence import Sentence

OWN_TOPIC = 0.92
OTHER_TOPIC = 0.01
NAME_SHARE = 0.3
STANCES = ("positive", "negative")


@dataclass
class Context:
    """What a text is about: a topic, a stance, and the names that come back in it."""

    topic: str
    stance: str
    names: list[Name]


class Speaker:
    """Draws meanings from a view of the lexicon and puts them into words."""

    def __init__(self, view: View, draw: Draw) -> None:
        self.view = view
        self.draw = draw
        self.grammar = Grammar(view.lexicon, draw)
        self.language = view.language

    def context(self, topic: str | None = None, stance: str | None = None) -> Context:
        """Return a topic, a stance and a few names."""
        draw = self.draw
        names = [self.actor_name() for _ in range(4)]
        return Context(topic or draw.pick(TOPICS), stance or draw.pick(STANCES), names)

    def lexeme(self, upos: str, topic: str) -> Lexeme:
        """Return a word of a class, of this topic with high probability."""
        point = self.draw.uniform()
        if point < OTHER_TOPIC:
            topic = self.draw.pick(TOPICS)
        elif point > OTHER_TOPIC + OWN_TOPIC:
            topic = GENERAL
        return self.draw.pool(self.view.open[upos, topic])

    def closed(self, upos: str) -> Lexeme:
        """Return a word of a closed class."""
        return self.draw.pool(self.view.closed[upos])

    def actor_name(self) -> Name:
        """Return a name of one that acts: of a person or an organisation, seldom of a place."""
        return self.name(self.draw.pick(("PER",) * 5 + ("ORG",) * 3 + ("LOC",)))

    def name(self, kind: str) -> Name:
        """Return a name of one to three tokens."""
        draw, pools = self.draw, self.view.names
        if kind == "PER":
            last = draw.pool(pools["last"]).word
            style = draw.uniform()
            if style < 0.5:
                return Name(kind, (draw.pool(pools["first"]).word, last))
            if style < 0.9:
                return Name(kind, (last,), draw.pool(pools["title"]).word)
            return Name(kind, (last,))
        place = draw.pool(pools["place"]).word
        if kind == "LOC":
            double = draw.chance(0.2)
            return Name(kind, (place, draw.pool(pools["place"]).word) if double else (place,))
        head = draw.pool(pools["head"]).word
        core = place if draw.chance(0.5) else draw.pool(pools["last"]).word
        tokens = (head, core)
        return Name(kind, tokens[::-1] if self.language.postpositions else tokens)

    def noun_phrase(self, topic: str) -> Phrase:
        """Return a noun, often with a determiner, an adjective or a numeral."""
        draw = self.draw
        noun = self.lexeme("NOUN", topic)
        number = NUMBERS[draw.chance(0.2)]
        return Phrase(
            noun,
            gender=noun.gender,
            number=number,
            adjective=self.lexeme("ADJ", topic) if draw.chance(0.35) else None,
            determiner=self.closed("DET") if draw.chance(self.language.determiner) else None,
            numeral=self.numeral() if number == "Plur" and draw.chance(0.4) else None,
        )

    def numeral(self) -> Token:
        """Return a number in digits or as a word."""
        if self.draw.chance(0.5):
            return self.closed("NUM").word
        digits = self.language.number(self.draw.between(2, 20))
        return Token(digits, digits, "NUM")

    def year(self) -> Token:
        """Return a year in digits."""
        digits = self.language.number(self.draw.between(2010, 2025))
        return Token(digits, digits, "NUM")

    def date(self) -> tuple[Token, ...]:
        """Return a year, or a day, month and year."""
        if self.draw.chance(0.5):
            return (self.year(),)
        day = self.language.number(self.draw.between(1, 28))
        month = self.draw.pool(self.view.names["month"]).word
        return (Token(day, day, "NUM"), month, self.year())

    def actor(self, context: Context) -> Phrase:
        """Return the one who acts: a name, a pronoun or a noun phrase."""
        draw = self.draw
        point = draw.uniform()
        genders = tuple(self.language.endings)
        if point < NAME_SHARE:
            name = draw.pick(context.names) if draw.chance(0.7) else self.actor_name()
            return Phrase(name=name, gender=genders[0])
        if point < NAME_SHARE + 0.12:
            number = NUMBERS[draw.chance(0.3)]
            return Phrase(pronoun=self.closed("PRON"), gender=draw.pick(genders), number=number)
        return self.noun_phrase(context.topic)

    def proposition(self, context: Context) -> Proposition:
        """Return an action, a state, or (one in five) a judgement by the stance of the context."""
        draw = self.draw
        subject = self.actor(context)
        place: tuple[Lexeme, Phrase] | None = None
        date: tuple[Token, ...] = ()
        if draw.chance(0.25):
            where = (
                Phrase(name=self.name(draw.pick(("LOC",) * 8 + ("ORG", "PER"))))
                if draw.chance(0.5)
                else self.noun_phrase(context.topic)
            )
            place = (self.closed("ADP"), where)
        if draw.chance(0.1):
            date = self.date()
        if draw.chance(0.2):
            judgement = self.judgement(context)
            return replace(judgement, subject=subject, place=place, date=date)
        if draw.chance(0.12):
            attribute = self.lexeme("ADJ", context.topic)
            negated = draw.chance(0.1)
            return Proposition(
                subject, attribute=attribute, place=place, date=date, negated=negated
            )
        return Proposition(
            subject,
            verb=self.lexeme("VERB", context.topic),
            object=self.actor(context) if draw.chance(0.75) else None,
            adverb=self.draw.pool(self.view.open["ADV", GENERAL]) if draw.chance(0.25) else None,
            auxiliary=draw.pick(self.auxiliaries()) if draw.chance(0.5) else None,
            negated=draw.chance(0.12),
            place=place,
            date=date,
        )

    def auxiliaries(self) -> list[Lexeme]:
        """Return the auxiliaries other than the copula."""
        return self.view.closed["AUX"].items[1:]

    def judgement(self, context: Context) -> Proposition:
        """Return a judgement by the stance; a negated one uses the opposite word."""
        negated = self.draw.chance(0.2)
        polarity = STANCES[STANCES.index(context.stance) ^ negated]
        attribute = self.draw.pool(self.view.evaluative[polarity])
        return Proposition(self.actor(context), attribute=attribute, negated=negated)

    def sentence(self, context: Context) -> Sentence:
        """Return a sentence of one or two clauses."""
        draw, grammar = self.draw, self.grammar
        meaning = self.proposition(context)
        words = grammar.clause(meaning, passive=self.can_be_passive(meaning) and draw.chance(0.06))
        empty: list[tuple[int, Token]] = []
        point = draw.uniform()
        if point < 0.12:
            words += self.joined("SCONJ", grammar.clause(self.proposition(context)))
        elif point < 0.2:
            words += self.joined("CCONJ", grammar.clause(self.proposition(context)))
        elif point < 0.24 and meaning.verb and meaning.object:
            elliptic = replace(
                meaning,
                subject=self.actor(context),
                object=self.actor(context),
                place=None,
                date=(),
            )
            tail = grammar.clause(elliptic, elided=True)
            agreement = (elliptic.subject.gender, elliptic.subject.number)
            empty.append((len(words) + 3, meaning.verb.forms[agreement]))
            words += self.joined("CCONJ", tail)
        if draw.chance(0.05):
            words = self.quoted(words) if draw.chance(0.5) and not empty else words
        elif draw.chance(0.05) and not empty:
            date = [(token, "O") for token in self.date()]
            words += [(Token("(", "(", "PUNCT"), "O"), *date, (Token(")", ")", "PUNCT"), "O")]
        end = "!" if draw.chance(0.03) else "?" if draw.chance(0.03) else self.language.full_stop
        return grammar.sentence(words, end, empty)

    def can_be_passive(self, meaning: Proposition) -> bool:
        """Return whether a meaning has a passive: it is an action on something."""
        return meaning.verb is not None and meaning.object is not None

    def joined(self, upos: str, clause: Tagged) -> Tagged:
        """Return a second clause with its conjunction."""
        return [(COMMA, "O"), (self.closed(upos).word, "O"), *clause]

    def quoted(self, words: Tagged) -> Tagged:
        """Return the words between the language's quotation marks."""
        opening, closing = self.language.quotes
        mark = Token(opening, opening, "PUNCT"), Token(closing, closing, "PUNCT")
        return [(mark[0], "O"), *words, (mark[1], "O")]

    def plain(self, meaning: Proposition, passive: bool = False) -> Sentence:
        """Return one proposition as one sentence."""
        words = self.grammar.clause(meaning, passive=passive)
        return self.grammar.sentence(words, self.language.full_stop)

    def restated(self, context: Context) -> list[Sentence]:
        """Return a sentence and, after a marker, the same in other words or its contrary."""
        draw, roles = self.draw, self.grammar.roles
        meaning = self.proposition(context)
        if draw.chance(0.65):
            marker, again = roles["same"], synonymous(meaning)
        else:
            marker, again = roles["contrary"], contrary(meaning, negate=draw.chance(0.5))
        passive = self.can_be_passive(again) and draw.chance(0.5)
        words = [(marker, "O"), *self.grammar.clause(again, passive=passive)]
        return [self.plain(meaning), self.grammar.sentence(words, self.language.full_stop)]

    def paragraph(self, context: Context, sentences: int) -> list[Sentence]:
        """Return so many sentences, some of them restated in the next one."""
        result: list[Sentence] = []
        while len(result) < sentences:
            if self.draw.chance(0.15):
                result += self.restated(context)
            else:
                result.append(self.sentence(context))
        return result
