"""What one public benchmark is, as data: where it lies, what its columns say, how it is asked and scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# How a row says which options there are and which one is right.
OptionsForm = Literal["list", "list as text", "columns", "none"]
AnswerForm = Literal[
    "letter", "letter in brackets", "letter or text", "index", "option", "option or text", "text"
]


@dataclass(frozen=True)
class Uncut:
    """Where another revision keeps the clips of the folder `cut`, whole.

    `bounded`: a row's `start` and `end` say in seconds which part of its clip it is about. `rate`: pictures a
    second of clips that are folders of pictures.
    """

    cut: str
    folder: str
    bounded: bool = False
    rate: float = 0.0


@dataclass(frozen=True)
class Videos:
    """Where a row's clip lies below the dataset's folder: the first of `folders`, `{config}` filled in."""

    column: str
    folders: tuple[str, ...]
    suffixes: tuple[str, ...] = (".mp4", ".MP4", ".mkv")
    # Of a benchmark whose parts keep their clips in folders of their own: part -> folder.
    by_config: tuple[tuple[str, str], ...] = ()
    # How frames are chosen (`videos.rules`); the number is lmms-eval's for models that leave it open.
    frames: str = "linspace:32"
    # Folders of the revision that our own protocol reads, too.
    uncut: tuple[Uncut, ...] = ()
    uncut_revision: str = ""


@dataclass(frozen=True)
class Benchmark:
    """One record. `ids`: names that the dataset has or had on the hub, today's first.

    `options`: one column, or one for each option ("columns"). `pictures`: columns in the order in which they
    are given; `named_pictures`: only those that the prompt names count. `cluster`: the column whose equal
    values are one group, "pictures" for those of the same picture files, "row" where nothing is shared.
    """

    name: str
    title: str
    ids: tuple[str, ...]
    configs: tuple[str, ...]
    split: str
    count: int  # rows with public answers
    question: str
    options: tuple[str, ...]
    options_form: OptionsForm
    answer: str
    answer_form: AnswerForm
    category: str
    cluster: str
    prompt: str  # of `prompts.PROMPTS`
    rule: str  # of `rules.RULES`
    new_tokens: int
    licence: str
    matches: str  # the task of lmms-eval whose prompts and scores are the same
    chance: float  # mean over all questions, as published or counted; source in docs/benchmarks.md
    ident: str = ""
    pictures: tuple[str, ...] = ()
    named_pictures: bool = False
    videos: Videos | None = None
    revision: str = "main"
    more: tuple[str, ...] = ()  # other columns that the prompt or the rule looks at
    may_lack: tuple[str, ...] = ()  # columns that are not in every release
    circular: bool = False  # rows of one group are one question, right if all are
    differences: tuple[str, ...] = ()  # from lmms-eval's figure, each on purpose

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is looked at."""
        clip = (self.videos.column,) if self.videos else ()
        others = tuple(c for c in (self.ident, self.category, self.cluster) if c and c not in _NO_COLUMN)
        found = (self.question, *self.options, self.answer, *self.pictures, *clip, *others, *self.more)
        return tuple(dict.fromkeys(column.partition(".")[0] for column in found))

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns without which a file is not of this benchmark."""
        return tuple(c for c in self.columns if c not in self.may_lack)


_NO_COLUMN = ("pictures", "row", "config", "subject")
