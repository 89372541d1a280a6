"""Pictures and words -> a prompt as arrays, and answers back to text; without transformers.

Words and the places of pictures go through the checkpoint's own chat template; each place gives way to what
the family's processor writes for that picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.pictures import load_image, picture_size
from topovlm.plain_files import Stored
from topovlm.runtime.context_length import refuse_too_long
from topovlm.runtime.manifest import Manifest, load_manifest
from topovlm.runtime.pictures import settings_errors, strategy
from topovlm.runtime.pictures.seen import Seen, Strategy
from topovlm.runtime.template import messages, render, special_tokens
from topovlm.runtime.tokenizer_file import read_tokenizer, tokenizer_errors
from topovlm.travel.prompts import Prompt

Picture = Image.Image | Path | Stored | str


class Prompter:
    """Makes prompts and reads answers of one exported folder; no graph is opened."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.tokenizer = read_tokenizer(manifest.tokenizer_file)

    @cached_property
    def strategy(self) -> Strategy:
        """How pictures are prepared. Raises `InputError` for a model without pictures."""
        manifest = self.manifest
        if manifest.file.strategy is None:
            rule = "are not taken: this model reads text alone"
            raise InputError(explain("pictures", manifest.file.model_type, rule, "Ask without pictures"))
        return strategy(
            manifest.file.strategy,
            images=manifest.facts.preprocessor or {},
            processor=manifest.processor,
            config=manifest.facts.config,
            token=self.token,
        )

    def token(self, number: int) -> str:
        """The text of a token. Raises `InputError` when the tokenizer has no such id."""
        text = self.tokenizer.id_to_token(number)
        if text is None:
            raise InputError(explain("token id", number, "is not in the tokenizer", "Export again"))
        return str(text)

    def prepare(self, images: Sequence[Picture], words: str) -> Prompt:
        """Load and prepare pictures, tokenise. Raises `InputError` naming the picture or the prompt."""
        pictures = [
            load_image(image) if isinstance(image, (str, Path, Stored)) else image for image in images
        ]
        seens = self._seen(pictures)
        return self._arrays(self._ids(words, seens), seens)

    def _seen(self, pictures: Sequence[Image.Image]) -> list[Seen]:
        if not pictures:
            return []
        strategy = self.strategy
        with settings_errors():
            return strategy.see_all(pictures)

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """Texts that stand for pictures, pieces of them, and videos: no words may hold them."""
        if self.manifest.file.strategy is None:
            return ()
        config = self.manifest.facts.config
        videos = (config.get("video_token_id"), config.get("video_token_index"))
        numbers = (self.manifest.image_token_id, *videos)
        # A tokenizer may be without the token for videos.
        texts = [self.tokenizer.id_to_token(n) for n in numbers if isinstance(n, int) and 0 <= n < 1 << 31]
        return tuple(dict.fromkeys((self.strategy.placeholder, *(text for text in texts if text))))

    def check(self, images: Sequence[Picture], words: str, new_tokens: int) -> None:
        """Raises `InputError` for a prompt that cannot be made, or passes the context with its answer.

        Pictures are prepared only where their sizes say that it may be near: nothing else needs them.
        """
        if images:
            _ = self.strategy
        facts, text = self.manifest.facts, self.template_text(words, len(images))
        longest = facts.context_tokens
        if longest is None:
            return
        sizes = (picture_size(Path(p) if isinstance(p, str) else p) for p in images)
        visual = [facts.visual_tokens(facts.workload(image_size=size)) for size in sizes]
        if 2 * (len(self._encoded(text)) + sum(visual) + new_tokens) > longest:
            refuse_too_long(words, len(self.prepare(images, words).ids), new_tokens, longest)

    def text(self, words: str, seens: Sequence[Seen]) -> str:
        """The whole prompt as text, pictures before the words."""
        rendered = self.template_text(words, len(seens))
        return self.strategy.whole(rendered, seens) if self.manifest.file.strategy else rendered

    def template_text(self, words: str, pictures: int) -> str:
        """The prompt with a mark for each picture. Raises `InputError` for words that hold such a mark."""
        for mark in self.marks:
            if mark in words:
                rule = f"must not hold {mark}, which stands for a picture: pictures are given apart"
                raise InputError(explain("prompt", words, rule))
        rules = self.manifest.file.prompt
        if rules.form == "template":
            turn = messages(pictures, words, parts=rules.parts)
            return render(self.manifest.template, turn, tokens=special_tokens(self.manifest.tokenizer))
        return words

    def _encoded(self, text: str) -> list[int]:
        """Raises `InputError` for text that makes tokens which the model has no row for."""
        manifest = self.manifest
        own = manifest.file.prompt.add_special_tokens
        with tokenizer_errors(manifest.tokenizer_file):
            ids = list(self.tokenizer.encode(text, add_special_tokens=own).ids)
        beyond = {number for number in ids if number >= manifest.file.decoder.vocab} - {
            manifest.image_token_id
        }
        if beyond:
            rule = f"is beyond the {manifest.file.decoder.vocab} words of the model"
            raise InputError(explain("token id", min(beyond), rule, "Give the model its own tokenizer.json"))
        return ids

    def _ids(self, words: str, seens: Sequence[Seen]) -> np.ndarray:
        return np.asarray(self._encoded(self.text(words, seens)), np.int64)

    def with_pictures(self, ids: np.ndarray, pictures: Sequence[Image.Image]) -> Prompt:
        """A prompt of given ids `[S]`, in which the pictures' tokens stand: for timings at a length."""
        return self._arrays(ids, self._seen(pictures))

    def _arrays(self, ids: np.ndarray, seens: Sequence[Seen]) -> Prompt:
        rules = self.manifest.file
        first = rules.first_position
        positions, following = np.arange(first, first + len(ids)), first + len(ids)
        if rules.positions == "grid":
            from topovlm.runtime.positions import grid_positions

            grids = [seen.grid for seen in seens if seen.grid is not None]
            positions, following = grid_positions(ids, rules.image_token_id, grids)
        return Prompt(
            ids=ids,
            positions=positions,
            next_position=following,
            pictures=self._runs(seens),
            block_ids=self._blocks(ids),
            image_token_id=rules.image_token_id,
        )

    def _runs(self, seens: Sequence[Seen]) -> list[dict[str, np.ndarray]]:
        """Inputs of the vision graph, run by run: all pictures at once where their strategy joins them."""
        if len(seens) < 2 or not self.strategy.joins:
            return [seen.feeds for seen in seens]
        return [{name: np.concatenate([seen.feeds[name] for seen in seens]) for name in seens[0].feeds}]

    def _blocks(self, ids: np.ndarray) -> np.ndarray | None:
        """int64 `[S]`: tokens of one number see each other whole; None where all is causal."""
        mask = self.manifest.file.mask
        if mask == "causal":
            return None
        if mask == "prefix":
            return np.ones_like(ids)
        inside = (ids == self.manifest.image_token_id).astype(np.int64)
        begins = np.diff(inside, prepend=0) == 1
        blocks: np.ndarray = np.cumsum(begins) * inside
        return blocks

    def decode(self, token_ids: list[int]) -> str:
        """The answer's text, special tokens left out, blanks at the ends stripped."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=True).strip()


def prompter_of(folder: str | Path) -> Prompter:
    """Of an exported folder. Raises `InputError` for one that is none."""
    return Prompter(load_manifest(folder))
