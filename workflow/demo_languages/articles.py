"""Encyclopaedia articles as wikitext: running text of one topic, with all the usual markup."""

from collections.abc import Iterator
from typing import NamedTuple

from demo_languages.lexicon import TOPICS
from demo_languages.sentence import Sentence
from demo_languages.speaker import Context, Speaker

EXACT_EVERY = 40
NEAR_EVERY = 30
STUB_EVERY = 15
LIST_EVERY = 20
REDIRECT_EVERY = 8


class Page(NamedTuple):
    """A page of a wiki; ``redirect`` is the title that it leads to, or empty."""

    title: str
    namespace: int
    text: str
    redirect: str = ""


class Writer:
    """Writes the pages of one wiki."""

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self.draw = speaker.draw
        self.language = speaker.language
        self.titles: dict[str, int] = {}

    def phrase(self, topic: str) -> str:
        """Return one or two words about a topic: a heading, a caption, a label."""
        noun = self.speaker.lexeme("NOUN", topic).lemma
        if self.draw.chance(0.5):
            noun = f"{noun} {self.speaker.lexeme('NOUN', topic).lemma}"
        return self.language.capitalised(noun)

    def title(self, context: Context) -> str:
        """Return a title that no other page has."""
        name = self.draw.pick(context.names)
        words = " ".join(token.form for token in name.tokens)
        title = words if self.draw.chance(0.6) else self.phrase(context.topic)
        self.titles[title] = self.titles.get(title, 0) + 1
        return title if self.titles[title] == 1 else f"{title} ({self.titles[title]})"

    def marked_up(self, sentence: Sentence) -> str:
        """Return a sentence with links, emphasis, entities and references."""
        draw = self.draw
        surfaces = sentence.surfaces()
        parts = []
        for surface in surfaces:
            form = surface.form
            lemma = sentence.words[surface.first].lemma
            if sentence.words[surface.first].upos in ("NOUN", "PROPN") and draw.chance(0.1):
                form = f"[[{form}]]" if lemma == form else f"[[{lemma}|{form}]]"
            elif draw.chance(0.01):
                form = draw.pick(("''{}''", "'''{}'''", "<small>{}</small>")).format(form)
            parts.append(form + (" " if surface.space_after else ""))
        text = "".join(parts)
        point = draw.uniform()
        if point < 0.06:
            text += f"<ref>{{{{cite book|title={self.phrase(draw.pick(TOPICS))}|year=1987}}}}</ref>"
        elif point < 0.10:
            text += f'<ref name="r{draw.between(1, 9)}" />'
        elif point < 0.12:
            text += f"<!-- {draw.between(1, 99)} -->"
        elif point < 0.13:
            text += f" [https://example.org/{draw.between(1, 999)} {self.phrase('general')}]"
        return text

    def infobox(self, context: Context, title: str) -> str:
        """Return an infobox with a nested template."""
        rows = [
            f"| {self.speaker.lexeme('NOUN', context.topic).lemma} = {self.phrase(context.topic)}"
            for _ in range(self.draw.between(2, 4))
        ]
        date = f"{self.draw.between(1900, 2025)}|{self.draw.between(1, 12)}"
        rows.append(f"| born = {{{{birth date|{date}|{{{{#expr: 1 + 2}}}}}}}}")
        return "\n".join(
            [f"{{{{Infobox {context.topic}", f"| name = {title}", *rows, "| image = A.jpg", "}}"]
        )

    def extra(self, context: Context) -> str:
        """Return a table, a list, a gallery, an image or a formula."""
        draw = self.draw
        kind = draw.between(0, 5)
        rows = [self.phrase(context.topic) for _ in range(draw.between(2, 4))]
        if kind == 0:
            body = "\n".join(f"|-\n| {row} || {draw.between(1, 999)}" for row in rows)
            return f'{{| class="wikitable"\n! {rows[0]} !! №\n{body}\n|}}'
        if kind == 1:
            return "\n".join(f"{draw.pick('*#')} [[{row}]]" for row in rows)
        if kind == 2:
            body = "\n".join(f"File:{draw.between(1, 999)}.jpg|{row}" for row in rows)
            return f"<gallery>\n{body}\n</gallery>"
        if kind == 3:
            return f"[[File:{draw.between(1, 999)}.png|thumb|200px|{rows[0]} [[{rows[1]}]]]]"
        if kind == 4:
            return f"<math>x_{{{draw.between(1, 9)}}} < \\frac{{a}}{{b}} \\&\\ y > 0</math>"
        return f"{{{{quote|{self.speaker.sentence(context).text}|{{{{nowrap|{rows[0]}}}}}}}}}"

    def article(self, context: Context, title: str) -> str:
        """Return the wikitext of one article."""
        draw = self.draw
        parts = [self.infobox(context, title)] if draw.chance(0.5) else []
        for section in range(draw.between(2, 5)):
            if section:
                marks = "=" * draw.pick((2, 2, 3))
                parts.append(f"{marks} {self.phrase(context.topic)} {marks}")
            for _ in range(draw.between(1, 3)):
                context.stance = draw.pick(("positive", "negative"))
                sentences = self.speaker.paragraph(context, draw.between(3, 6))
                space = "&nbsp;" if draw.chance(0.02) else " "
                parts.append(space.join(self.marked_up(sentence) for sentence in sentences))
            if draw.chance(0.3):
                parts.append(self.extra(context))
        parts.append(f"{{{{DEFAULTSORT:{title}}}}}\n[[Category:{context.topic}]]")
        return "\n\n".join(parts)

    def pages(self, articles: int) -> Iterator[Page]:
        """Yield all pages of the wiki: so many articles, and what stands around them."""
        draw = self.draw
        for topic in TOPICS:
            yield Page(f"Category:{topic}", 14, "[[Category:Main]]")
        yield Page("Template:Birth date", 10, "<includeonly>{{{1}}}-{{{2}}}</includeonly>")
        yield Page("Template:Nowrap", 10, '<span style="white-space:nowrap">{{{1}}}</span>')
        yield Page("File:1.jpg", 6, "== Licence ==\n{{CC-BY}}")
        for number in range(1, articles + 1):
            context = self.speaker.context()
            title = self.title(context)
            text = self.article(context, title)
            yield Page(title, 0, text)
            if number % EXACT_EVERY == 0:
                yield Page(self.title(context), 0, text)
            if number % NEAR_EVERY == 0:
                yield Page(self.title(context), 0, self.nearly(text, context))
            if number % STUB_EVERY == 0:
                stub = self.speaker.sentence(context)
                yield Page(self.title(context), 0, self.marked_up(stub) + "\n\n{{stub}}")
            if number % LIST_EVERY == 0:
                rows = "\n".join(f"* [[{self.phrase(context.topic)}]]" for _ in range(12))
                yield Page(self.title(context), 0, rows + f"\n\n[[Category:{context.topic}]]")
            if number % REDIRECT_EVERY == 0:
                target = f"#REDIRECT [[{title}]]"
                yield Page(self.title(context), 0, target, redirect=title)
            if draw.chance(0.05):
                talk = self.speaker.sentence(context).text
                yield Page(f"Talk:{title}", 1, f"== ? ==\n{talk} [[User:A{number}]] 12:00 (UTC)")
            if draw.chance(0.03):
                yield Page(f"User:A{number}", 2, self.speaker.sentence(context).text)

    def nearly(self, text: str, context: Context) -> str:
        """Return the text with about one word in fifty replaced."""
        words = text.split(" ")
        for position, word in enumerate(words):
            if word.isalpha() and self.draw.chance(0.02):
                words[position] = self.speaker.lexeme("NOUN", context.topic).lemma
        return " ".join(words)
