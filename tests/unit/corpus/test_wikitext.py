"""Text that WikiExtractor would lose or mangle, markup that it would leave: of public reports."""

import time
from collections import Counter

import pytest

from eliquare.corpus import wikitext
from eliquare.corpus.extractor import Extractor
from eliquare.corpus.wikitext import Site

SITE = Site.of_header(
    '<namespace key="6" case="first-letter">Slika</namespace>'
    '<namespace key="10" case="first-letter">Predloga</namespace>'
    '<namespace key="14" case="first-letter">Kategorija</namespace>'
)
PARAGRAPHS = "\n".join(f"Paragraph {n} tells of the valley." for n in range(8))
CASES = {
    # Links.
    "title with a colon": ("[[Star Trek: Voyager|Voyager]] is late.", "Voyager is late."),
    "colon without a label": ("See [[3:10 to Yuma]] now.", "See 3:10 to Yuma now."),
    "link to a category": ("In [[:Kategorija:Mesta|towns]] here.", "In towns here."),
    "other project": ("A [[s:Poem|poem]] and [[Help:IPA|[poˈem]]].", "A poem and [poˈem]."),
    "what a reader does not see": (
        "A town. [[Slika:A.jpg|thumb|300px|a [[bridge]]]]\n[[Kategorija:Mesta|Ime]]\n[[en:City]]",
        "A town.",
    ),
    "unknown names of namespaces": ("A. [[Bild:A.jpg|thumb|words]]\n[[Kat:Mesta]]", "A."),
    "plain links": ("Two [[house| old house ]]s, [[road]]s, [[a|]]b.", "Two old houses, roads, b."),
    "links never closed": (
        "The [[sea|wide sea and [[hill] and hut]].",
        "The wide sea and hill and hut.",
    ),
    "external link": ("A [http://a.b/c label] and [http://a.b].", "A label and."),
    "external link around another": ("A [http://a.b ''c'' of [[d|e]] f].", 'A "c" of e f.'),
    "external link in two brackets": ("A [[http://a.b label]], [[https://a.b]]c.", "A label, c."),
    # Elements.
    "list of reports": (
        "Rekel je <q>dober dan</q> in <ins>dodal</ins> <mark>besedo</mark>.<br>Otok<wbr>ček, "
        '<dfn>pojem</dfn>, <samp>a</samp>, <kbd>b</kbd>, <time>2020</time>. <score sound="1">{ '
        '\\time 4/4 c\'4 }</score><mapframe latitude="3" />Tu <mapframe>{"type": "Feature"}'
        '</mapframe><graph>{"width": 4}</graph><indicator name="x">[[Slika:A.png]]</indicator>'
        '<templatestyles src="x.css" /><onlyinclude>Konec</onlyinclude>',
        "Rekel je dober dan in dodal besedo. Otokček, pojem, a, b, 2020. Tu Konec",
    ),
    "poem": ("<poem>Prva vrstica\nDruga</poem>", "Prva vrstica\nDruga"),
    "formulas": ("Voda <chem>H2O</chem> in <math>E=mc^2</math> tu.", "Voda in tu."),
    "ruby": ("<ruby>漢字<rp>(</rp><rt>かんじ</rt><rp>)</rp></ruby>です。", "漢字です。"),
    "marks of transclusion": (
        "About <onlyinclude>1,234</onlyinclude> people<noinclude> live</noinclude> <section "
        "begin=a/>here<section end=a/>.",
        "About 1,234 people live here.",
    ),
    "code in a line": ("Call <code>print</code> once.", "Call print once."),
    "text of small": ("Old <small>and small</small> text.", "Old and small text."),
    "unclosed small": (
        f"Begin <small>note.\n{PARAGRAPHS}\n<small>x</small> end.",
        f"Begin note.\n{PARAGRAPHS}\nx end.",
    ),
    "unclosed ref": (
        f"Begin <ref name=a>note.\n{PARAGRAPHS}\nEnd<ref>x</ref>.",
        f"Begin note.\n{PARAGRAPHS}\nEnd.",
    ),
    "unclosed nowiki": (f"Begin <nowiki>note.\n{PARAGRAPHS}", f"Begin note.\n{PARAGRAPHS}"),
    "unclosed comment": (f"Begin <!-- note.\n{PARAGRAPHS}", f"Begin note.\n{PARAGRAPHS}"),
    "unclosed tag": ("A <b and <i more.\nText.", "A <b and <i more.\nText."),
    "nested table of HTML": ("A.<table><tr><td><table></table>x</td></tr></table> B.", "A. B."),
    "unclosed table of HTML": ("A.\n<table><tr><td>word\nB is here.", "A.\nword\nB is here."),
    "nowiki": ("It is <nowiki>[x] * y</nowiki>.", "It is [x] * y."),
    # Templates.
    "glued neighbours": ("To je 10{{nbsp}}km in 5{{x}}, ({{y}}a).", "To je 10 km in 5, (a)."),
    "script without spaces": ("日本{{lang|ja}}は島。", "日本は島。"),
    "brackets around templates": (
        "日本({{lang|ja}})は島({{a}}、{{b}})。スター({{a}}; {{b}})。1990（{{a}}）は。 "
        "စာ({{a}}၊ {{b}})စာ Izola ({{lang|it}}) is a town (see print()).",
        "日本は島。スター。1990は。 စာစာ Izola is a town (see print()).",
    ),
    "parser function": ("Meri {{formatnum:2000}} ha.", "Meri 2,000 ha."),
    "name of the page": ("{{PAGENAME}} is a town.", "Title is a town."),
    "pairs around a template": (
        "A ''{{a}}'' b (''{{a}}''), “{{a}}” c [{{a}}] « {{a}} » d, \"e\" {{a}} \"f\" and g[].",
        'A b, c d, "e" "f" and g[].',
    ),
    "branches of a parser function": (
        "A {{#if:{{{1|}}}|b|}}{{#if:x|y|}} {{#ifeq:a|a|c|d}}.\nText.",
        "A y c.\nText.",
    ),
    "unclosed template": (
        f"Begin {{{{main|Hill\n{PARAGRAPHS}\nEnd {{{{x}}}} here.",
        f"Begin Hill\n{PARAGRAPHS}\nEnd here.",
    ),
    "nested templates": ("A {{a|{{b|{{c}}}}|{{{1|}}}}} B.", "A B."),
    "closed once too often": ("A {{b}}}} c.\nD.", "A c.\nD."),
    # Tables.
    "table": ("A.\n{| class=x\n! head\n|-\n| cell\n{|\n| inner\n|}\n|}\nB.", "A.\nB."),
    "unclosed table": ("A.\n{| class=x\n! head\n|-\n| cell\nB is text.", "A.\nB is text."),
    "sentence that begins with !": ("!Kung is a language.", "!Kung is a language."),
    # Lists, headings, lines.
    "list items": (
        "Known:\n* An angle is inverse to the size of what bends the wave, they say.\n# It works "
        "so here.\n* [[Name]]\n; Term\n: What it means.",
        "Known:\nAn angle is inverse to the size of what bends the wave, they say.\nIt works so "
        "here.\nWhat it means.",
    ),
    "items of HTML": ("A.<ul><li>It works so here.</li><li>x</li></ul>", "A.\nIt works so here."),
    "headings": (
        "== A ==\n=== B ===\nText.\n== C ==\n* x\n=== D? ===\nMore.\n== E ==\n",
        "A.\nB.\nText.\nC.\nD?\nMore.",
    ),
    "heading with text after it": ("== A ==text", "A text"),
    "line in brackets": ("(All of this line is text.)", "(All of this line is text.)"),
    "line that ends in a brace": ("The set is {a, b}\nMore.", "The set is {a, b}\nMore."),
    "switches": ("__NOTOC__ __БЕЗ_ОГЛ__Text of __init__.__notoc__", "Text of __init__."),
    "rulers": ("A is here.\n----\n-----B is here.", "A is here.\nB is here."),
    "two signs that are one mark": (
        'Both >> and &gt;&gt; and << and ,,low quotes" of ,,many".',
        'Both >> and >> and << and ,,low quotes" of ,,many".',
    ),
    # Conversion between scripts.
    "converter": (
        "-{Microsoft}- је у -{sr-ec:Граду; sr-el:Gradu}-.-{H|sr-ec:а; sr-el:b}-",
        "Microsoft је у Граду.",
    ),
    "converter with flags": ("-{zh-hans;zh-hant|字}--{T|x}--{A|zh-cn:甲&nbsp;;zh-tw:乙;}-", "字甲"),
    # Characters.
    "entities": (
        "12&nbsp;% in R&D, a &lt; b, x&copy=1 &zwnj;",
        "12\u00a0% in R&D, a < b, x&copy=1 \u200c",
    ),
    "tags written as text": ("A &lt;ref&gt; b.", "A b."),
    "percent": ("100 %% %s %d", "100 %% %s %d"),
}


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """The text of each case."""
    extractor = Extractor("Predloga", ["--no-templates"])
    pages = (("-", wikitext.simplify(case, SITE, "Title", False)[0]) for case, _ in CASES.values())
    try:
        return dict(zip(CASES, map(wikitext.clean, extractor.texts(pages)), strict=True))
    finally:
        extractor.close()


@pytest.mark.parametrize("name", CASES)
def test_text_stays_and_markup_goes(name, texts):
    assert texts[name] == CASES[name][1]


def test_what_is_dropped_is_counted():
    text = "A<ref>b</ref><math>x</math><gallery>y</gallery> {{c|{{d}}}} {{e}}\n{|\n|}\n* f\n* g"
    text, dropped = wikitext.simplify(text, SITE, "", False)
    wikitext.clean(text, dropped)
    assert dropped == Counter(
        {
            "references": 1,
            "formulas": 1,
            "other_elements": 1,
            "templates": 2,
            "tables": 1,
            "list_items": 2,
        }
    )


def test_what_a_template_holds_is_not_counted_against_it():
    text = "{{Infobox|pop=5<ref>a</ref><ref>b</ref>}} Text {{c}}"
    assert wikitext.simplify(text, SITE, "", False)[1] == {"references": 2, "templates": 2}


@pytest.mark.parametrize(
    "part",
    [
        *("<!--", "<math>", "<a ", "<nowiki>", "<table>", "<ref>", "<", "[http://a ", "[//", "=="),
        *(
            "{{",
            "{{a|",
            "}}",
            "{{{",
            "{{{a",
            "[ <math/>",
            "\n{|",
            "\n|}",
            "-{",
            "-{a|",
            "[[a:b|[x]",
            "[[a:b.c",
            "(,",
        ),
    ],
)
def test_time_is_in_proportion_to_the_page(part):
    """A quadratic pattern takes a hundred times longer for ten times as much."""
    seconds = []
    for length in (10_000, 100_000):
        begin = time.process_time()
        wikitext.clean(wikitext.simplify(part * (length // len(part)), SITE, "", False)[0])
        seconds.append(time.process_time() - begin)
    assert seconds[1] < 40 * seconds[0] + 0.2


def test_a_rule_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(wikitext, "CLEAN_SECONDS", 0.001)
    with pytest.raises(TimeoutError):
        wikitext.clean("[[" + "a:.a" * 5_000)
