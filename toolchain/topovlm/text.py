"""Words from elsewhere (a model, a board, a file, a library) on their way out: one function for each medium.

A name may hold anything: escape sequences that rewrite a terminal, line breaks that begin a heading or a
command of a CI system, marks that turn the direction of writing, mathematics. Each function gives text that
reads as it is and does nothing; what would stay invisible is shown as Python writes it (`\\x1b`, `\\u202e`).
What is meant for a terminal or for XML may go through its function twice: the second time changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from html import escape

_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Persian, the languages of India and joined emoji need them inside words.
_JOINERS = "\u200c\u200d"
_LONGEST = 4000  # characters of one sentence on a terminal
_COMMAND = re.compile(r"^(\s*):(?=:)")  # what GitHub's runner takes for a command
_OLD_COMMAND = re.compile(r"##(?=\[)")


def _escaped(character: str) -> str:
    code, short = ord(character), _SHORT.get(character)
    if short is not None:
        return short
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _hidden(character: str) -> bool:
    """Controls, formats (bidirectional marks, zero width), surrogates, separators, and noncharacters."""
    return unicodedata.category(character) in _INVISIBLE or ord(character) & 0xFFFE == 0xFFFE


def visible(text: str, keep: str = "") -> str:
    """Every character that is no picture of itself becomes an escape, but those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if _hidden(c) and c not in keep else c for c in text)


def one_line(text: str) -> str:
    """Line breaks and tabs, however they are spelt, become spaces."""
    return " ".join(re.split(r"\r\n|[\n\r\t\v\f\x85\u2028\u2029]", text))


def for_terminal(text: str) -> str:
    """One line that moves no cursor, colours nothing, and is no command of a CI system that reads it."""
    shown = visible(text)
    return _OLD_COMMAND.sub(r"\\x23#", _COMMAND.sub(r"\1\\x3a", shown))


def for_reading(text: str) -> str:
    """What a model wrote, for a terminal: line breaks and tabs stay, nothing else moves the cursor."""
    return visible(text, _JOINERS + "\n\t")


def shortened(text: str, longest: int = _LONGEST) -> str:
    """At most `longest` characters; what is cut is told by an ellipsis in the middle."""
    if len(text) <= longest:
        return text
    half = (longest - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def quoted(value: object) -> str:
    """A value as Python writes it, for a sentence on a terminal; one that cannot be written, by its type."""
    try:
        written = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits; lists within lists
        written = f"a {type(value).__name__} that is too large to show"
    return for_terminal(shortened(written, _LONGEST // 4))


def for_json(document: str) -> str:
    """JSON text whose strings hold nothing invisible; it reads back as the same document."""

    def unit(character: str) -> str:
        raw = character.encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{raw[i]:02x}{raw[i + 1]:02x}" for i in range(0, len(raw), 2))

    return "".join(unit(c) if _hidden(c) and c not in "\n\r\t" else c for c in document)


def for_html(text: str) -> str:
    """Text of an element or of a quoted attribute."""
    return escape(visible(one_line(text), _JOINERS))


def for_xml(text: str) -> str:
    """Text that XML 1.0 can hold; the writer of the XML escapes its markup. Line breaks stay."""
    return visible(text, _JOINERS + "\n\t")


_MARKUP = re.compile(r"([\\`*|\[\]~])")
# An underline inside a word is no emphasis.
_EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_ENTITY = re.compile(r"&(?=#?\w+;)")
# What begins a heading, a list, a quotation or a rule at the beginning of a line.
_BLOCK = re.compile(r"^([#>]|[+=-](?=[\s+=-]|$))")
_NUMBERED = re.compile(r"^(\d+)([.)])(?=\s|$)")


def for_markdown(text: str) -> str:
    """One line of GitHub-flavoured Markdown, also in a cell of a table: no markup, link, HTML or block."""
    shown = visible(one_line(text), _JOINERS).strip()
    shown = _EMPHASIS.sub(r"\\_", _MARKUP.sub(r"\\\1", shown))
    shown = _ENTITY.sub("&amp;", shown).replace("<", "&lt;")
    return _NUMBERED.sub(r"\1\\\2", _BLOCK.sub(r"\\\1", shown))


def for_plot(text: str) -> str:
    """A label of a figure: a dollar sign begins no mathematics there."""
    return visible(one_line(text), _JOINERS).replace("$", r"\$")


def for_annotation(text: str) -> str:
    """The message of a workflow command of GitHub Actions; line breaks stay, as GitHub writes them."""
    shown = visible(text.replace("\r\n", "\n").replace("\r", "\n"), "\n")
    return shown.replace("%", "%25").replace("\n", "%0A")


def for_annotation_property(text: str) -> str:
    """A property (the title, say) of a workflow command."""
    return for_annotation(text).replace(":", "%3A").replace(",", "%2C")
