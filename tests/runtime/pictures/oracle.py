"""Random pictures, a tiny tokenizer, and what every strategy is held to: the family's own processor."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from tests import tiny
from topovlm.runtime.pictures import strategy
from topovlm.runtime.pictures.seen import Seen, Strategy

MODES = ("RGB", "RGBA", "L", "LA", "P", "PA", "1", "CMYK", "YCbCr", "HSV", "L", "RGB", "LA")
BOS = "<bos>"


def picture(mode: str, width: int, height: int, seed: int = 0) -> Image.Image:
    """A ramp with noise, in any mode."""
    rng = np.random.default_rng(seed)
    block = rng.integers(0, 60, (64, 64, 4))
    noise = np.tile(block, (-(-height // 64), -(-width // 64), 1))[:height, :width]
    rows = np.linspace(0, 120, height)[:, None, None]
    columns = np.linspace(0, 75, width)[None, :, None]
    image = Image.fromarray((noise + rows + columns).astype(np.uint8), "RGBA")
    if mode == "PA":
        return image.convert("RGB").convert("P").convert("PA")
    return image.convert(mode)


@functools.cache
def pictures(count: int = 50, *, widest: float = 1e9, seed: int = 7) -> list[Image.Image]:
    """Of any mode, from 1 px to 4000 px; most are small. `widest`: longest aspect ratio."""
    rng = np.random.default_rng(seed)
    sizes = [(1, 1), (2, 1), (1, 3), (4000, 21), (19, 2900), (2000, 1500), (333, 333), (64, 32), (32, 64)]
    while len(sizes) < count:
        width, height = (int(side) for side in np.exp(rng.uniform(0, np.log(400), 2)))
        sizes.append((width, height))
    fitting = [(max(w, int(np.ceil(h / widest))), max(h, int(np.ceil(w / widest)))) for w, h in sizes[:count]]
    return [picture(MODES[i % len(MODES)], w, h, seed=i) for i, (w, h) in enumerate(fitting)]


def without_torchvision(module: str) -> Any:
    """A module of transformers that asks for torchvision, of which its rules use nothing."""
    wanted = ("torchvision", "torchvision.transforms", "torchvision.transforms.v2")
    lent = {} if importlib.util.find_spec("torchvision") else {name: ModuleType(name) for name in wanted}
    if lent:
        vars(lent[wanted[-1]])["functional"] = ModuleType("functional")
    before = set(sys.modules)
    sys.modules.update(lent)
    try:
        return importlib.import_module(f"transformers.models.{module}")
    finally:
        family = f"transformers.models.{module.partition('.')[0]}."
        for name in set(sys.modules) - before:
            if lent and (name in lent or name.startswith(family)):
                del sys.modules[name]


def tokenizer(specials: Sequence[str], **named: str) -> Any:
    """A byte-level tokenizer whose special tokens are `specials`, the padding and the beginning; `named` are
    attributes that processors read (`image_token=...`)."""
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(
        tokenizer_object=tiny.tokenizer_object(),
        pad_token=tiny.PAD,
        bos_token=BOS,
        extra_special_tokens=named,
    )
    made.add_tokens(list(specials), special_tokens=True)
    return made


def made(name: str, processor: Any, config: Mapping[str, Any], **stated: Any) -> Strategy:
    """The strategy as an exported folder would name it, from what the processor says about itself."""
    token = processor.tokenizer.convert_ids_to_tokens
    images = processor.image_processor.to_dict()
    return strategy(name, images=images, processor=stated, config=config, token=token)


def same_pixels(got: np.ndarray, want: Any) -> None:
    """float32 and equal but for the order of rounding."""
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.asarray(want), rtol=0, atol=3e-6)


def same_prompt(own: Strategy, seens: list[Seen], processor: Any, prompt: str, ids: Any) -> None:
    """Token ids equal the processor's; as many stand for pictures as the strategy says."""
    encoded = processor.tokenizer(own.whole(prompt, seens), add_special_tokens=False)["input_ids"]
    assert encoded == np.asarray(ids).reshape(-1).tolist()
    assert encoded.count(processor.image_token_id) == sum(seen.tokens for seen in seens)
