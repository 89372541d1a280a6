"""VideoLLaMA2 from its own files: what its code does, written once more around stock decoders and towers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.family_checks import build, check_deploy
from PIL import Image
from safetensors.torch import load_file

from tests import tiny_families
from topovlm.checkpoint.live import Live, collate, encode, load
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.checkpoint.verify import relative_difference
from topovlm.families.original import normal
from topovlm.native.stc import SpatialTemporalConv
from topovlm.samples import Sample
from topovlm.videos.frames import Frames

FRAMES = 4
SYSTEM = (
    "<<SYS>>\nYou are a helpful, respectful and honest assistant. Always answer as helpfully as possible, "
    "while being safe.  Your answers should not include any harmful, unethical, racist, sexist, toxic, "
    "dangerous, or illegal content. Please ensure that your responses are socially unbiased and positive in "
    "nature.\nIf a question does not make any sense, or is not factually coherent, explain why instead of "
    "answering something not correct. If you don't know the answer to a question, please don't share false "
    "information.\n<</SYS>>"
)


@pytest.fixture(scope="module", params=tiny_families.ORIGINAL)
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Live:
    return load(tiny_families.build(tmp_path_factory.mktemp("original") / request.param, request.param))


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _clips(sample: Sample) -> list[list[Any]]:
    """Frames of each picture and video: `process_video` of the models' own code, given pictures."""
    clips = [[picture] * FRAMES for picture in sample.load_images()]
    for video in sample.load_videos():
        clip = list(video.pictures)
        clip += [Image.new("RGB", video.size)] * (FRAMES - len(clip))
        clips.append(clip)
    return clips


def _pixels(live: Live, sample: Sample) -> torch.Tensor:
    """The stock image processor's."""
    from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

    square = {"height": 32, "width": 32}
    if "clip" in live.folder.name:
        images: Any = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=square)
    else:
        images = SiglipImageProcessorPil(size=square)
    frames = [frame for clip in _clips(sample) for frame in clip]
    pixels: torch.Tensor = images(frames, return_tensors="pt")["pixel_values"]
    return pixels


def _by_their_code(live: Live, sample: Sample) -> torch.Tensor:
    """Logits [T, V]: the string cut at its mark, pieces tokenised apart, features between embeddings."""
    from transformers import (
        CLIPVisionConfig,
        CLIPVisionModel,
        MistralConfig,
        MistralForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    clip = "clip" in live.folder.name
    tensors = load_file(live.folder / "model.safetensors")
    config = json.loads((live.folder / "config.json").read_text())
    vision = config.pop("vision_config")
    if clip:
        decoder: Any = MistralForCausalLM(MistralConfig(**config))
        tower: Any = CLIPVisionModel(CLIPVisionConfig(**vision))
    else:
        decoder = Qwen2ForCausalLM(Qwen2Config(**config))
        tower = SiglipVisionModel(SiglipVisionConfig(**vision))
    decoder.load_state_dict({name: tensors[name] for name in decoder.state_dict()})
    tower.load_state_dict(_part(tensors, "model.vision_tower.vision_tower.vision_model."))
    connector = SpatialTemporalConv(32, 64, frames=FRAMES, padding=int(clip)).eval()
    connector.load_state_dict(_part(tensors, "model.mm_projector."))
    marks = len(sample.images) + len(sample.videos)
    message = [{"role": "user", "content": "<video>\n" * marks + sample.prompt}]
    if clip:
        message = [{"role": "system", "content": SYSTEM}, *message]
    tokenizer = live.tokenizer
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    pieces = [tokenizer(piece, add_special_tokens=False).input_ids for piece in text.split("<video>")]
    with torch.inference_mode():
        states = tower.eval()(_pixels(live, sample), output_hidden_states=True).hidden_states[-2]
        features = connector(states[:, 1:] if clip else states)
        table = decoder.get_input_embeddings()
        row = [table(torch.tensor(pieces[0]))]
        for clip_features, piece in zip(features, pieces[1:], strict=True):
            row += [clip_features, table(torch.tensor(piece))]
        return decoder.eval()(inputs_embeds=torch.cat(row)[None]).logits[0]


def test_logits_are_those_of_the_models_own_code(live: Live) -> None:
    """Pictures, clips, a short one; the system's text, the features' place and layer, the connector."""
    short = Frames.of(tiny_families.video(3, 2).pictures)
    asked = [*tiny_families.samples(live.folder.name), Sample("short", (), "What?", videos=(short,))]
    whole = [sample for sample in tiny_families.video_samples() if sample.id != "odd"]
    for sample in (*asked, *whole):
        with torch.inference_mode():
            ours = live.model(**collate(live, [encode(live, sample)])).logits[0]
        theirs = _by_their_code(live, sample)
        assert ours.shape == theirs.shape
        assert relative_difference(ours, theirs) < 1e-5


def test_frames_of_other_numbers_are_spread(live: Live) -> None:
    """More than a clip has, or fewer that were chosen of a longer one: the middles of equal parts."""

    def shown(count: int) -> torch.Tensor:
        asked = Sample("a", (), "What?", videos=(tiny_families.video(5, count),))
        pixels: torch.Tensor = encode(live, asked).extra["pixel_values"]
        return pixels

    for count, places in ((10, (1, 3, 6, 8)), (3, (0, 1, 1, 2))):
        every = torch.cat([_frame(live, 5, count, place) for place in range(count)])
        assert torch.equal(shown(count), every[list(places)])


def _frame(live: Live, seed: int, count: int, place: int) -> torch.Tensor:
    picture = tiny_families.video(seed, count).pictures[place]
    return encode(live, Sample("a", (picture,), "What?")).extra["pixel_values"][:1]


def test_the_mark_is_no_words(live: Live) -> None:
    """Words that hold the token which marks pictures here are refused; `<image>` is not one."""
    from topovlm.errors import InputError

    mark = live.processor.image_token
    with pytest.raises(InputError, match="marks the place of a picture"):
        encode(live, Sample(id="mark", images=(), prompt=f"What is {mark}?"))
    found = encode(live, Sample(id="words", images=(), prompt="What is <image>?"))
    assert live.image_token_id not in found.input_ids.tolist()


def test_a_slim_folder_is_again_one(live: Live, tmp_path: Path) -> None:
    """Fields and files of the source, the depth alone another; the card promises no class of transformers."""
    prune_checkpoint(live.folder, tmp_path / "slim", [3, 4])
    before, after = (json.loads((f / "config.json").read_text()) for f in (live.folder, tmp_path / "slim"))
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} <= {
        "num_hidden_layers",
        "layer_types",
        "max_window_layers",
    }
    assert after["num_hidden_layers"] == 6
    tensors = load_file(tmp_path / "slim" / "model.safetensors")
    assert "model.layers.5.mlp.down_proj.weight" in tensors
    assert "model.layers.6.mlp.down_proj.weight" not in tensors
    card = (tmp_path / "slim" / "README.md").read_text()
    assert "No class of transformers loads it" in card
    assert "library_name" not in card
    assert len(load(tmp_path / "slim").blocks) == 6


def test_older_files_are_read_as_newer_ones(live: Live) -> None:
    """`mistral` with a connector is VideoLLaMA2 from before its own types; without one it is Mistral."""
    config = normal(json.loads((live.folder / "config.json").read_text()))
    assert config["model_type"].startswith("videollama2_")
    assert normal({**config, "model_type": "mistral"})["model_type"] == "videollama2_mistral"
    plain = {"model_type": "mistral", "hidden_size": 64}
    assert normal(plain) is plain


def test_an_exported_folder_answers_as_the_model(live: Live, tmp_path: Path) -> None:
    """The whole way: cut, exported, run without torch; the report of the export says who reads the folder."""
    import topovlm
    from topovlm.checkpoint.live import greedy
    from topovlm.runtime.engine import Engine

    prune_checkpoint(live.folder, tmp_path / "slim", [3, 4])
    record = topovlm.export(tmp_path / "slim", tmp_path / "onnx")
    slim, engine = load(tmp_path / "slim"), Engine(tmp_path / "onnx", threads=1)
    for sample in (*tiny_families.samples(live.folder.name), *tiny_families.video_samples()):
        expected = greedy(slim, [encode(slim, sample)], 8)[0]
        assert engine.generate(sample.visuals(), sample.prompt, 8).token_ids == expected
    assert record.artifacts[0].loads_in == ("ONNX Runtime",)
    (feeds,) = [
        seen.feeds
        for seen in engine.prompter.strategy.see_all(tiny_families.sample("llava_next", 1)[0].images)
    ]
    assert feeds["pixel_values"].shape == (FRAMES, 3, 32, 32)
    assert feeds["pixel_values"].dtype == np.float32


def test_a_report_says_who_loads_the_slim_model(tmp_path: Path) -> None:
    """From a budget on a board to the report: neither its checks nor its artefacts name transformers."""
    name = "videollama2-siglip-qwen2"
    family = build(name, tmp_path)
    check_deploy(family)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert any(
        "no class of transformers loads this model" in limit for limit in report["provenance"]["limits"]
    )
    (slim,) = [row for row in report["artifacts"] if row["format"] == "checkpoint"]
    assert slim["loads_in"] == ["the source's own code", "topovlm"]
    assert not any("transformers" in " ".join(row["loads_in"]) for row in report["artifacts"])
    assert "reload with topovlm's own classes" in {row["name"] for row in report["verifications"]}
