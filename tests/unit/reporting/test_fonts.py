"""Letters of any script in figures: their fonts, and what is said where there is none."""

from types import SimpleNamespace

import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from eliquare.reporting import figures, fonts
from eliquare.reporting.results import OutputOptions

# Fonts that come with matplotlib: the second has ⌒, the first does not; none has letters of Han.
BUNDLED = ("DejaVu Sans", "STIXGeneral")


@pytest.fixture(autouse=True)
def bundled_fonts(monkeypatch):
    manager = font_manager.fontManager
    kept = [font for font in manager.ttflist if font.name in BUNDLED]
    monkeypatch.setattr(manager, "ttflist", kept)


def drawn(words: str) -> Figure:
    figure = Figure()
    figure.subplots().set_yticks([0], [words])
    return figure


def test_a_letter_is_written_in_a_font_that_has_it():
    assert fonts.fonts_for("aя") == (["DejaVu Sans"], set())
    assert fonts.fonts_for("a⌒ 字") == ([*BUNDLED], {"字"})
    figure = drawn("a⌒")
    assert fonts.lay_out(figure) == set()
    assert figure.axes[0].get_yticklabels()[0].get_fontfamily() == [*BUNDLED]


def test_letters_without_a_font_are_named_once(tmp_path, monkeypatch, caplog):
    named = {"task_scores": lambda *_: drawn("文字"), "size_against_score": lambda _: drawn("字a")}
    for name, draw in named.items():
        monkeypatch.setattr(figures, name, draw)
    monkeypatch.setattr(figures.paper_figures, "draw", lambda *_: [])
    tasks = {"scored_tasks": ["a", "b"], "task_title": str, "curves": [], "vocabularies": []}
    monkeypatch.setattr(figures.results, "read", lambda _: SimpleNamespace(**tasks))
    figures.write_figures(OutputOptions(settings=tmp_path, output=tmp_path / "figures"))
    assert len(list((tmp_path / "figures").glob("*.png"))) == 3
    (line,) = [each.getMessage() for each in caplog.records]
    assert line.startswith("figures show boxes, since no installed font has 字 文; install fonts")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10 שלום", True), ("سلام", True), ("Tübingen", False), ("हिन्दी", False), ("10", False)],
)
def test_the_direction_of_a_script(text, expected):
    assert fonts.is_right_to_left(text) == expected
