"""Pictures, videos and words -> a prompt as arrays, and answers back to text; without transformers.

Words and the places of pictures and videos go through the checkpoint's own chat template; each place gives
way to what the family's processor writes for it. From there on a video is pictures: its tokens become theirs,
whose places the graphs fill.
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
from topovlm.runtime.pictures.seen import Film, Seen, Strategy
from topovlm.runtime.template import messages, render, special_tokens
from topovlm.runtime.tokenizer_file import read_tokenizer, tokenizer_errors
from topovlm.travel.prompts import Prompt
from topovlm.videos.clip import Clip
from topovlm.videos.frames import Frames

Picture = Image.Image | Path | Stored | str
Visual = Picture | Clip | Frames


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
            videos=manifest.videos,
        )

    def token(self, number: int) -> str:
        """The text of a token. Raises `InputError` when the tokenizer has no such id."""
        text = self.tokenizer.id_to_token(number)
        if text is None:
            raise InputError(explain("token id", number, "is not in the tokenizer", "Export again"))
        return str(text)

    def prepare(self, visuals: Sequence[Visual], words: str) -> Prompt:
        """Load and prepare pictures, then videos, tokenise. Raises `InputError` naming one or the prompt."""
        seens, films = self._prepared(visuals)
        return self._arrays(self._ids(words, seens, films), seens, films)

    def _prepared(self, visuals: Sequence[Visual]) -> tuple[list[Seen], list[Film]]:
        pictures, videos = _parted(visuals)
        loaded = [load_image(one) if isinstance(one, (str, Path, Stored)) else one for one in pictures]
        return self._seen(loaded), self._watched(videos)

    def _seen(self, pictures: Sequence[Image.Image]) -> list[Seen]:
        if not pictures:
            return []
        strategy = self.strategy
        with settings_errors():
            return strategy.see_all(pictures)

    def _watched(self, videos: Sequence[Clip | Frames]) -> list[Film]:
        films: list[Film] = []
        for video in videos:  # one is in memory at a time
            frames = video.frames() if isinstance(video, Clip) else video
            with settings_errors():
                films.append(self.strategy.watch(frames))
        return films

    @cached_property
    def mark_ids(self) -> tuple[int, ...]:
        """Tokens that stand for pictures, pieces of them, and videos; a tokenizer may be without one."""
        config = self.manifest.facts.config
        videos = (config.get("video_token_id"), config.get("video_token_index"), self._film_token)
        numbers = (self.manifest.image_token_id, *videos)
        return tuple(n for n in dict.fromkeys(numbers) if isinstance(n, int) and 0 <= n < 1 << 31)

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """Texts that stand for pictures, pieces of them, and videos: no words may hold them."""
        if self.manifest.file.strategy is None:
            return ()
        texts = map(self.tokenizer.id_to_token, self.mark_ids)
        return tuple(dict.fromkeys((self.strategy.placeholder, *(text for text in texts if text))))

    @cached_property
    def _film_token(self) -> int | None:
        return self.manifest.facts.video_token_id

    def check(self, visuals: Sequence[Visual], words: str, new_tokens: int) -> None:
        """Raises `InputError` for a prompt that cannot be made, or passes the context with its answer.

        Pictures and videos are prepared only where their sizes say that it may be near: nothing else needs
        them.
        """
        images, videos = _parted(visuals)
        if visuals:
            _ = self.strategy
        facts, text = self.manifest.facts, self.template_text(words, len(images), len(videos))
        longest = facts.context_tokens
        if longest is None:
            return
        sizes = (picture_size(Path(p) if isinstance(p, str) else p) for p in images)
        visual = [facts.visual_tokens(facts.workload(image_size=size)) for size in sizes]
        visual += [facts.most_film_tokens(_most_frames(video)) for video in videos]
        if 2 * (len(self._encoded(text)) + sum(visual) + new_tokens) > longest:
            refuse_too_long(words, len(self.prepare(visuals, words).ids), new_tokens, longest)

    def text(self, words: str, seens: Sequence[Seen], films: Sequence[Film] = ()) -> str:
        """The whole prompt as text, pictures and videos before the words."""
        rendered = self.template_text(words, len(seens), len(films))
        return self.strategy.whole(rendered, seens, films) if self.manifest.file.strategy else rendered

    def template_text(self, words: str, pictures: int, videos: int = 0) -> str:
        """The prompt with a mark for each picture and video.

        Raises `InputError` for words that hold such a mark, and for videos that the model does not take.
        """
        if videos and not self.strategy.film_placeholder:
            raise InputError(explain("videos", videos, "this model takes no videos"))
        for mark in self.marks:
            if mark in words:
                rule = f"must not hold {mark}, which stands for a picture: pictures are given apart"
                raise InputError(explain("prompt", words, rule))
        rules = self.manifest.file.prompt
        if rules.form == "template":
            turn = messages(pictures, words, videos=videos, parts=rules.parts)
            return render(self.manifest.template, turn, tokens=special_tokens(self.manifest.tokenizer))
        return words

    def _encoded(self, text: str) -> list[int]:
        """Raises `InputError` for text that makes tokens which the model has no row for."""
        manifest = self.manifest
        own = manifest.file.prompt.add_special_tokens
        with tokenizer_errors(manifest.tokenizer_file):
            ids = list(self.tokenizer.encode(text, add_special_tokens=own).ids)
        marks = {manifest.image_token_id, self._film_token}
        beyond = {number for number in ids if number >= manifest.file.decoder.vocab} - marks
        if beyond:
            rule = f"is beyond the {manifest.file.decoder.vocab} words of the model"
            raise InputError(explain("token id", min(beyond), rule, "Give the model its own tokenizer.json"))
        return ids

    def _ids(self, words: str, seens: Sequence[Seen], films: Sequence[Film]) -> np.ndarray:
        ids = np.asarray(self._encoded(self.text(words, seens, films)), np.int64)
        if films and self.manifest.image_token_id is not None:
            ids[ids == self._film_token] = self.manifest.image_token_id
        return ids

    def with_visuals(self, ids: np.ndarray, visuals: Sequence[Visual]) -> Prompt:
        """A prompt of given ids `[S]`, in which the visuals' tokens stand: for timings at a length."""
        return self._arrays(ids, *self._prepared(visuals))

    def _arrays(self, ids: np.ndarray, seens: Sequence[Seen], films: Sequence[Film] = ()) -> Prompt:
        rules = self.manifest.file
        first = rules.first_position
        positions, following = np.arange(first, first + len(ids)), first + len(ids)
        if rules.positions == "grid":
            from topovlm.runtime.positions import grid_positions

            paces = [(seen.grid, 1.0) for seen in seens if seen.grid is not None]
            paces += [(grid, film.pace) for film in films for grid in film.grids]
            grids, steps = [grid for grid, _ in paces], [pace for _, pace in paces]
            positions, following = grid_positions(ids, rules.image_token_id, grids, steps)
        return Prompt(
            ids=ids,
            positions=positions,
            next_position=following,
            pictures=[*self._runs(seens), *(run for film in films for run in film.runs)],
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


def _parted(visuals: Sequence[Visual]) -> tuple[list[Picture], list[Clip | Frames]]:
    """Pictures and videos, each in their order: a prompt shows the former first."""
    pictures = [one for one in visuals if not isinstance(one, (Clip, Frames))]
    return pictures, [one for one in visuals if isinstance(one, (Clip, Frames))]


def _most_frames(video: Clip | Frames) -> int:
    return len(video.pictures) if isinstance(video, Frames) else video.rule.most


def prompter_of(folder: str | Path) -> Prompter:
    """Of an exported folder. Raises `InputError` for one that is none."""
    return Prompter(load_manifest(folder))
