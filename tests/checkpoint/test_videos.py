"""Videos in prompts, family by family: the stock processor's tokens, Pillow's pixels, stock generation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny_families
from tests.tiny_families.processors import VIDEOS
from topovlm.checkpoint.live import (
    Live,
    collate,
    encode,
    forward_decoder,
    greedy,
    last_stream_and_logits,
    load,
)
from topovlm.checkpoint.loading import quiet_transformers
from topovlm.checkpoint.verify import relative_difference
from topovlm.choose.clouds import Reading
from topovlm.choose.reading import Reader, norm_of
from topovlm.errors import InputError
from topovlm.samples import Sample
from topovlm.videos.frames import Frames

CLOSE = 2e-5


@pytest.fixture(scope="module", params=tiny_families.WITH_VIDEOS)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Live]:
    name: str = request.param
    return name, load(tiny_families.build(tmp_path_factory.mktemp("films") / name, name, layers=4))


def test_every_frame_counts_and_so_does_its_place(family: tuple[str, Live]) -> None:
    """Another pixel in any frame, or frames in another order, change what the model makes of a prompt."""
    _, live = family
    (frames,) = tiny_families.video_samples()[0].videos

    def stream(pictures: tuple[Any, ...]) -> torch.Tensor:
        shown = Frames(pictures, frames.indices, frames.fps, frames.total)
        sample = Sample("a", (), "What?", videos=(shown,))
        return last_stream_and_logits(live, collate(live, [encode(live, sample)]))[0][:, -1]

    usual = stream(frames.pictures)
    assert relative_difference(stream(frames.pictures[::-1]), usual) > 0.002
    for number in range(len(frames.pictures)):
        changed = list(frames.pictures)
        changed[number] = changed[number].point(lambda level: 255 - level)
        assert relative_difference(stream(tuple(changed)), usual) > 0.002


def test_batches_give_what_prompts_give_alone(family: tuple[str, Live]) -> None:
    """Pictures, one video or two: in a padded batch the stream of each, and its greedy answer."""
    _, live = family
    asked = tiny_families.video_samples()
    if "video_grid_thw" not in encode(live, asked[0]).extra:  # these stack frames: all clips have as many
        asked = [asked[0], *asked[2:]]
    prompts = [encode(live, sample) for sample in asked]
    together, _ = last_stream_and_logits(live, collate(live, prompts))
    for row, prompt in enumerate(prompts):
        alone, _ = last_stream_and_logits(live, collate(live, [prompt]))
        assert relative_difference(together[row, : prompt.length], alone[0]) < CLOSE
    answers = greedy(live, prompts, 6)
    for prompt, answer in zip(prompts, answers, strict=True):
        given = {"input_ids": prompt.input_ids[None], "attention_mask": torch.ones(1, prompt.length).long()}
        types = {key: value[None] for key, value in prompt.types.items()}
        with torch.inference_mode(), quiet_transformers():
            tokens = live.model.generate(
                **given,
                **types,
                **prompt.extra,
                max_new_tokens=6,
                suppress_tokens=list(live.picture_token_ids),
            )
        assert answer == tokens[0, prompt.length :].tolist()


def test_pixels_and_tokens_are_the_video_processors(family: tuple[str, Live]) -> None:
    """transformers' own, with torchvision: tokens equal; pixels too where nothing is resized."""
    pytest.importorskip("torchvision", reason="transformers' video processors need it")
    import transformers

    name, live = family
    kind = getattr(transformers, VIDEOS[name]["video_processor_type"])
    settings = {key: value for key, value in VIDEOS[name].items() if key != "video_processor_type"}
    own, ours = kind(**settings, do_sample_frames=False), getattr(live.processor, "video_processor", None)
    for size in ((32, 32), (64, 32), (40, 56), (72, 48), (0, 0)):
        for count in (2, 3, 4):
            frames = tiny_families.video(5, count, size) if size[0] else tiny_families.slow_video(count)
            sample = Sample("a", (), "What?", videos=(frames,))
            made = encode(live, sample)
            live.processor.video_processor = own
            theirs = live.processor.apply_chat_template(
                [{"role": "user", "content": [{"type": "video", "video": list(frames.pictures)},
                                              {"type": "text", "text": "What?"}]}],
                add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
                processor_kwargs={"video_metadata": [{"total_num_frames": 100, "fps": 12.5,
                                                      "frames_indices": list(frames.indices)}]},
            )  # fmt: skip
            live.processor.video_processor = ours
            assert made.input_ids.tolist() == theirs["input_ids"][0].tolist()
            for name in ("video_grid_thw", "second_per_grid_ts", "video_compression_mask"):
                if name in theirs:
                    assert torch.equal(made.extra[name], torch.as_tensor(theirs[name]))
            pixels, expected = made.extra["pixel_values_videos"], theirs["pixel_values_videos"]
            assert pixels.shape == expected.shape
            grid = made.extra.get("video_grid_thw", torch.tensor([[1, 4, 4]]))
            kept = [8 * side for side in grid[0, 1:].tolist()] == list(reversed(frames.size))
            levels = (pixels - expected).abs() * 255 * min(np.atleast_1d(own.image_std))
            # Resized, colours are rounded at other places.
            assert levels.max() < (0.01 if kept else 8)
            assert levels.mean() < (0.01 if kept else 0.5)


def test_what_takes_no_videos_says_so(tmp_path: Path) -> None:
    """By sample; also where the family would, and this tokenizer has no token for it."""
    live = load(tiny_families.build(tmp_path / "model", "internvl", layers=2))
    with pytest.raises(InputError, match=r"a: videos = 1: this model takes no videos"):
        encode(live, tiny_families.Sample("a", (), "What?", videos=(tiny_families.video(1),)))


def test_words_that_stand_for_a_video_are_refused(family: tuple[str, Live]) -> None:
    """As those that stand for a picture."""
    _, live = family
    with pytest.raises(InputError, match="marks the place"):
        encode(live, Sample("a", (), f"What is {live.processor.video_token}?"))


def test_forward_decoder_takes_videos(family: tuple[str, Live]) -> None:
    """Calibration's pass: every block sees the video's tokens."""
    _, live = family
    prompt = encode(live, tiny_families.video_samples()[2])
    found: list[int] = []
    handle = live.blocks[0].register_forward_pre_hook(lambda _block, args: found.append(args[0].shape[1]))
    forward_decoder(live, collate(live, [prompt]))
    handle.remove()
    assert found == [prompt.length]


def test_pieces_of_clips_count_as_pieces_of_pictures(family: tuple[str, Live]) -> None:
    """In clouds of words and of pictures: a stream of ones where the model puts features, else of zeros."""
    _, live = family
    for sample in tiny_families.video_samples():
        batch = collate(live, [encode(live, sample)])
        features = torch.isin(batch["input_ids"], torch.tensor(live.picture_token_ids))
        read = Reader(
            live, batch, [Reading("text-mean", "residual"), Reading("image-mean", "residual")], norm_of(live)
        )
        words, pieces = read(features[..., None].float()).flatten().tolist()
        assert (words, pieces) == (0, pytest.approx(1, rel=1e-5))
