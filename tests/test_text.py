"""Text from elsewhere, for each medium: it reads as it is and does nothing."""

from __future__ import annotations

import io
import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topovlm import text
from topovlm.errors import InputError, explain, located

# Whatever a name may hold, also halves of characters, and more of what does harm than chance would give.
HARMFUL = "\x00\x07\x1b\x9b\r\n\t\x7f\x85\u202e\u2066\u200b\ufeff\u2028\ud800\udfff\ufffe"
anything = st.text(
    st.one_of(st.characters(), st.sampled_from(HARMFUL + "|`*_[]()<>&#:%,$\\'\"!-+= \U000e0041"))
)


def unseen(shown: str, keep: str = "") -> list[str]:
    return [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in keep]


@given(anything)
def test_a_terminal_gets_one_line_of_what_can_be_seen(value: str) -> None:
    """No control, no invisible mark, no line break, no command of a CI system; and twice is once."""
    shown = text.for_terminal(value)
    assert not unseen(shown)
    assert not shown.lstrip().startswith("::")
    assert "##[" not in shown
    assert text.for_terminal(shown) == shown
    shown.encode()


@pytest.mark.parametrize(
    "plain", ["Jetson Orin Nano", "日本語 é", "[/camera] board [lab]", "C:\\a\\b", "a::b"]
)
def test_what_does_no_harm_stays_as_it_is(plain: str) -> None:
    """Letters of any script, brackets, backslashes."""
    assert text.for_terminal(plain) == plain
    assert text.for_xml(plain) == plain


def test_escapes_are_written_as_python_writes_them() -> None:
    """So that a reader can look them up."""
    assert text.for_terminal("\x1b]0;t\x07\n\u202e\U000e0041") == "\\x1b]0;t\\x07\\n\\u202e\\U000e0041"


@given(anything)
def test_xml_is_well_formed_and_says_the_same(value: str) -> None:
    """Read back by an XML parser: the text with its unseen characters written out."""
    root = ET.Element("a", {"b": text.for_xml(value)})
    root.text = text.for_xml(value)
    read = ET.parse(io.BytesIO(ET.tostring(root, encoding="utf-8"))).getroot()
    assert (read.text or "") == text.for_xml(value)
    assert not unseen(text.for_xml(value), "\n\t\u200c\u200d")


class Words(HTMLParser):
    """Collects text and tags."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(anything)
def test_html_shows_text_and_no_tag(value: str) -> None:
    """In an element and within the quotes of an attribute."""
    shown = text.for_html(value)
    page = Words()
    page.feed(f"<p>{shown}</p>")
    page.close()
    assert page.tags == ["p"]
    assert page.text == unescape(shown)
    assert not {'"', "'", "<", ">"} & set(shown)


@given(st.lists(anything, min_size=1, max_size=4))
def test_a_row_of_markdown_has_as_many_cells(cells: list[str]) -> None:
    """No text ends its cell or its line."""
    row = "| " + " | ".join(map(text.for_markdown, cells)) + " |"
    assert len(row.splitlines()) == 1
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == len(cells) + 1


BLOCKS = [
    "# h",
    "> q",
    "- l",
    "+ l",
    "1. l",
    "2) l",
    "---",
    "===",
    "    code",
    "```\ncode",
    "x\r\r# a heading\r",
]
INLINE = ["*e*", "_e_", "`c`", "[t](u)", "![i](u)", "<b>x</b>", "&lt;", "a | b", "~~s~~"]


@pytest.mark.parametrize("markup", [*BLOCKS, *INLINE])
def test_markdown_shows_text_and_no_markup(markup: str) -> None:
    """Rendered by a reader of CommonMark, it is one paragraph of that text."""
    from markdown_it import MarkdownIt  # rich brings it

    html = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text.for_markdown(markup))
    page = Words()
    page.feed(html)
    assert page.tags == ["p"]
    assert page.text.strip().split() == markup.split()


@pytest.mark.parametrize("name", ["bar_chart", "7.10 ms", "-0.5", "a (b)", "3 × 4", "1.5"])
def test_markdown_of_plain_names_is_plain(name: str) -> None:
    """Nothing is escaped that needs none: the file is read in terminals, too."""
    assert text.for_markdown(name) == name


@given(anything)
def test_an_annotation_is_one_command(value: str) -> None:
    """GitHub's own way back gives the text: one line, and no property ends early."""
    shown, title = text.for_annotation(value), text.for_annotation_property(value)
    assert len(f"::error title={title}::{shown}".splitlines()) == 1
    assert not {":", ","} & set(title)
    back = shown.replace("%0A", "\n").replace("%25", "%")
    assert not unseen(back, "\n")


@given(st.recursive(anything, lambda inner: st.lists(inner) | st.dictionaries(anything, inner)))
def test_json_reads_back_as_the_same_document(value: object) -> None:
    """Nothing unseen is left in the text, and every reader gets the same strings."""
    shown = text.for_json(json.dumps(value, ensure_ascii=False, indent=1))
    assert not unseen(shown, "\n")
    assert json.loads(shown) == json.loads(json.dumps(value))


@pytest.mark.parametrize("label", [r"cost $\frac{1}{$", "$", "$$", r"\$x\$", "a $ b $ c", "x\r\x00\u202e"])
def test_a_label_is_no_mathematics(label: str) -> None:
    """matplotlib draws the signs themselves."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure()
    FigureCanvasSVG(figure)
    figure.suptitle(text.for_plot(label))
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    assert "<svg" in buffer.getvalue()
    drawn, mathematics = figure.texts[0]._preprocess_math(figure.texts[0].get_text())  # type: ignore[attr-defined]
    assert not mathematics
    assert drawn == text.visible(text.one_line(label))


def test_an_error_quotes_value_rule_and_place_alike() -> None:
    """The message is one harmless line; the parts stay what they were."""
    harm = "\x1b[31m\n::error::x\u202e"
    error = InputError(explain("index.json", harm, f"names {harm}", f"Remove {harm}").at(harm))
    again = InputError(located(error, harm))
    for said in (str(error), str(again)):
        assert not unseen(said)
    assert error.value == harm
    assert error.rule == f"names {harm}"


def test_a_value_that_cannot_be_written_is_named_by_its_type() -> None:
    """Whole numbers beyond what Python prints, lists within lists, and what would fill the screen."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert "a int that is too large to show" in explain("n", 10**5000, "is too large")
    assert "a list that is too large to show" in explain("n", deep, "is nested")
    assert len(explain("n", "x" * 10**6, "y" * 10**6)) < 10_000
    while deep:  # taken apart by hand: the interpreter's own way recurses
        deep = deep.pop()  # type: ignore[assignment]
