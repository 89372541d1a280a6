"""The part of a processor that prepares videos, by Pillow: transformers' own needs torchvision, and resizes
to other pixels than what is exported will be fed (see `processors`). Tokens and times stay the processor's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from topovlm.checkpoint.files import read_json_object, read_preprocessor, read_video_settings
from topovlm.errors import InputError, explain
from topovlm.families.configs import ModelConfig
from topovlm.families.family import Family
from topovlm.runtime.pictures import settings_errors, strategy
from topovlm.runtime.pictures.seen import FILM_PIXELS, Film, Strategy
from topovlm.videos.frames import Frames


class PillowFilms:
    """Called as a video processor of transformers is: frames chosen already, with their metadata."""

    def __init__(self, prepares: Strategy) -> None:
        self._prepares = prepares
        # What processors count tokens and times by; of families without such patches, nobody asks.
        self.merge_size: int = getattr(prepares, "film_merge", getattr(prepares, "merge", 1))
        self.patch_size: int = getattr(prepares, "patch", 1)
        self.temporal_patch_size: int = getattr(prepares, "frames", 1)

    def __call__(self, videos: Sequence[Any], *, video_metadata: Sequence[Any], **_settings: Any) -> Any:
        """`videos`: one prompt's, each a list of pictures. Tensors by the names that the model takes."""
        import torch
        from transformers import BatchFeature

        shown: list[Any] = [video for prompt in videos for video in prompt]
        films = [
            self._prepares.watch(
                Frames(tuple(video), tuple(told.frames_indices), told.fps, told.total_num_frames)
            )
            for video, told in zip(shown, video_metadata, strict=True)
        ]
        if films[0].grids:
            data = {"pixel_values_videos": _joined(films), "video_grid_thw": self._grids(films)}
        else:  # [videos, frames, channels, rows, columns]
            data = {"pixel_values_videos": np.stack([_joined([film]) for film in films])}
        data |= {name: np.concatenate([film.told[name] for film in films]) for name in films[0].told}
        tensors = {name: torch.from_numpy(values) for name, values in data.items()}
        return BatchFeature({**tensors, "video_metadata": list(video_metadata)})

    def _grids(self, films: Sequence[Film]) -> np.ndarray:
        """(runs, rows, columns) of each, in patches."""
        found = [(len(film.runs), *(side * self.merge_size for side in film.grids[0][1:])) for film in films]
        return np.asarray(found, np.int64)


def _joined(films: Sequence[Film]) -> np.ndarray:
    runs = [run for film in films for run in film.runs]
    return np.concatenate([run.get(FILM_PIXELS, run["pixel_values"]) for run in runs])


def films_of(folder: Path, config: ModelConfig, family: Family, tokenizer: Any) -> PillowFilms | None:
    """Of a checkpoint's files; None where its family takes no videos. Raises `InputError`."""
    tokens = family.tokens
    if tokens is None or tokens.videos is None:
        return None

    def token(number: int) -> str:
        text = tokenizer.convert_ids_to_tokens(number) if number < len(tokenizer) else None
        if not isinstance(text, str):
            raise InputError(explain("token id", number, "is not in the tokenizer", "Give the model its own"))
        return text

    stated = folder / "processor_config.json"
    with settings_errors():
        prepares = strategy(
            tokens.strategy,
            images=read_preprocessor(folder, config) or {},
            processor=read_json_object(stated, stated.name) if stated.is_file() else {},
            config=config,
            token=token,
            videos=read_video_settings(folder),
        )
    return PillowFilms(prepares) if prepares.film_placeholder else None


def conversation_parts(videos: Sequence[Frames]) -> list[dict[str, Any]]:
    """Parts of a message."""
    return [{"type": "video", "video": list(frames.pictures)} for frames in videos]


def metadata(videos: Sequence[Frames]) -> list[Any]:
    """What transformers' processors are told of videos whose frames are chosen already."""
    from transformers.video_utils import VideoMetadata

    return [
        VideoMetadata(
            total_num_frames=frames.total,
            fps=frames.fps,
            width=frames.size[0],
            height=frames.size[1],
            duration=frames.total / frames.fps,
            frames_indices=list(frames.indices),
        )
        for frames in videos
    ]
