"""Which pictures there are, and which categories of questions are asked of them."""

from __future__ import annotations

from benchmarks.smol import emoji, flags, tables, words
from topovlm.reference.makers import CATEGORIES as SYNTHETIC
from topovlm.reference.makers import MAKERS as DRAWN
from topovlm.reference.makers import Maker

MAKERS: dict[str, Maker] = {
    **DRAWN,
    "flag": flags.flag,
    "emoji": emoji.single,
    "emojis": emoji.several,
    "odd_one": emoji.odd_one,
    "chart": tables.chart,
    "word": words.word,
}
# Category -> whose pictures it is asked of. Yes-or-no questions of the real pictures only train: half of
# them a guess gets right.
REAL = {
    "flag_colour": "flag",
    "flag_stripes": "flag",
    "emoji_kind": "emoji",
    "emoji_count": "emojis",
    "emoji_place": "emojis",
    "emoji_odd": "odd_one",
    "table_value": "chart",
    "table_extreme": "chart",
    "table_above": "chart",
    "word_choice": "word",
    "word_letter": "word",
    "word_length": "word",
    "word_read": "word",
}
CATEGORIES: dict[str, str] = {**SYNTHETIC, **REAL}
