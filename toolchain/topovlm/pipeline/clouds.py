"""What the layers' clouds are made of where nobody says: by evidence, or as the scorer's paper has it."""

from __future__ import annotations

from typing import NamedTuple

from topovlm.choose.choices import AUTO
from topovlm.choose.loops import PUBLISHED_K
from topovlm.choose.scorers import find_scorer
from topovlm.config import Config

# docs/accuracy.md: over four models, what the mean of the text shows ranks layers better than its last token.
_TOKEN, _PUBLISHED_TOKEN = "text-mean", "last"


class Cloud(NamedTuple):
    """`stream` and `token` as --cloud and --token spell them; `neighbours`: a number, or a rule (`loops`)."""

    stream: str
    token: str
    neighbours: int | str


def cloud_of(config: Config) -> Cloud:
    token, neighbours = config.token, config.k
    true_to_its_paper = not find_scorer(config.scorer).judged
    if token == AUTO:
        token = _PUBLISHED_TOKEN if true_to_its_paper else _TOKEN
    if neighbours == AUTO and true_to_its_paper:
        neighbours = PUBLISHED_K
    return Cloud(config.cloud, token, neighbours)
