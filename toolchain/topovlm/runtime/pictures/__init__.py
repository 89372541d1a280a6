"""Pictures -> inputs of the vision graph and their place in the prompt: one module per strategy.

Without torch: numpy and Pillow alone. Oracles in the tests are the families' own processors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from topovlm.errors import InputError, explain
from topovlm.runtime.pictures.seen import Strategy
from topovlm.runtime.pictures.source import Source

STRATEGIES = ("anyres", "clip", "fixed", "native", "pan_and_scan", "pixtral", "sifted", "split", "tiles")


def strategy_of(name: str) -> Callable[[Source], Strategy]:
    """What makes a strategy from a checkpoint's files. Raises `InputError` naming those that there are."""
    if name not in STRATEGIES:
        rule = "is no way of preparing pictures that this runtime has"
        raise InputError(explain("strategy", name, rule, "Known: " + ", ".join(STRATEGIES)))
    build: Callable[[Source], Strategy] = import_module(f"{__name__}.{name}").build
    return build


def strategy(
    name: str,
    *,
    images: Mapping[str, Any],
    processor: Mapping[str, Any],
    config: Mapping[str, Any],
    token: Callable[[int], str],
    videos: Mapping[str, Any] | None = None,
) -> Strategy:
    """The strategy `name` of a checkpoint.

    `images`: its preprocessor_config.json, or the `image_processor` of its processor_config.json;
    `processor`: the latter; `config`: config.json as published; `token`: the text of a token id; `videos`:
    the video processor's settings, where they are not the image processor's.
    Raises `InputError` for an unknown name, and for image steps that the strategy does not do.
    """
    build = strategy_of(name)
    with settings_errors():
        return build(Source(images, processor, config, token, videos or images))


@contextlib.contextmanager
def settings_errors() -> Iterator[None]:
    """Settings of another kind than any published file's fail somewhere in a strategy: `InputError`.

    The fields that matter most are looked at one by one (`families.images`); here is the rest.
    """
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        rule = f"cannot be used ({type(error).__name__}: {error})"
        remedy = "Use the files of the model that the folder was made from"
        raise InputError(
            explain("image settings", "preprocessor_config.json, config.json", rule, remedy)
        ) from error
