"""Which vectors make a layer's point cloud: of which tokens, and on which stream.

A pass over the samples reads vectors off the stream that leaves every block (`reading`). Here they become
clouds: the same points in every layer, as a zigzag asks. Torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from topovlm.choose.choices import CLOUDS, KINDS, MULTI, TOKENS
from topovlm.errors import InputError, explain
from topovlm.samples import Sample


class Reading(NamedTuple):
    """One vector per layer and sample: a kind of token (`KINDS`) on a stream (`CLOUDS`)."""

    token: str
    cloud: str


# What scorers that compare streams are given, whatever the clouds are made of.
STREAM = Reading("last", "residual")
ALL_READINGS = tuple(Reading(token, cloud) for cloud in CLOUDS for token in KINDS)
# By reading float32 [layers, samples, width]. Zeros in every layer: the sample has no such token.
States = Mapping[Reading, np.ndarray]


def readings_for(cloud: str, token: str) -> tuple[Reading, ...]:
    """What `clouds_of` needs, and `STREAM` before it."""
    return tuple(dict.fromkeys((STREAM, *_parts(cloud, token))))


def clouds_of(states: States, cloud: str = "residual", token: str = "last") -> np.ndarray:
    """Every layer's point cloud: float32 [layers, points, width].

    One point per sample. "multi": up to three, of the last token, the mean of the text and the mean of the
    picture, side by side as points of one cloud; a sample without pictures has two. That is sound for
    graphs of neighbours: the kinds lie apart, so a point's neighbours are mostly of its own kind, whatever
    the kinds' scales are; the complex of parts that do not touch has the loops of all of them, and a
    layer's share of lasting loops is their mean by number of loops. (Vectors joined end to end would let
    the kind of largest spread decide alone who is near.) Raises `InputError`: a sample without such a token.
    """
    parts = [states[reading] for reading in _parts(cloud, token)]
    present = [part.any(axis=(0, 2)) for part in parts]
    if token == MULTI:
        return np.concatenate([part[:, has] for part, has in zip(parts, present, strict=True)], axis=1)
    if not present[0].all():
        rule = f"sample {int(np.flatnonzero(~present[0])[0])} has no such token in this model's prompts"
        raise InputError(explain("--token", token, rule, "Choose last or text-mean"))
    return parts[0]


def check_token(token: str, samples: Sequence[Sample]) -> None:
    """Raise `InputError` naming a sample without what the choice of tokens averages over."""
    if token == "image-mean":
        for sample in samples:
            if not sample.images and not sample.videos:
                rule = "there is no picture to average over"
                remedy = "Choose last, text-mean or multi"
                raise InputError(explain("--token", token, rule, remedy).at(sample.source or sample.id))


def _parts(cloud: str, token: str) -> tuple[Reading, ...]:
    if token not in TOKENS:
        raise InputError(explain("--token", token, "is unknown", f"Choose one of {', '.join(TOKENS)}"))
    if cloud not in CLOUDS:
        raise InputError(explain("--cloud", cloud, "is unknown", f"Choose one of {', '.join(CLOUDS)}"))
    return tuple(Reading(kind, cloud) for kind in (KINDS if token == MULTI else (token,)))
