"""From a training run to the shipped folder: `python -m topovlm.reference.release --run RUN --out DIR`.

Writes the checkpoint in fp16, measures it with stock transformers on the held-out split exactly as
it is shipped, and writes the model card, the accuracy table and the training log beside it. Without
`--run` it measures the folder in `--out` and prints the table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from topovlm import json_text
from topovlm.artifacts import read_json
from topovlm.evaluation.metrics import score_answer
from topovlm.reference.data import TEST_COUNT, TEST_SEED, samples
from topovlm.samples import Sample


def export_run(run: Path, out: Path) -> None:
    """The trained model of a run's last checkpoint as a Hugging Face folder; weights in fp16."""
    import torch
    from tokenizers import Tokenizer

    from topovlm.reference.architecture import Size, save_checkpoint
    from topovlm.reference.packing import Layout
    from topovlm.reference.train import Recipe, build_model, grow

    saved = read_json(run / "recipe.json")
    recipe = replace(Recipe(**{**saved, "size": Size(**saved["size"]), "layout": Layout(**saved["layout"])}))
    tokenizer = Tokenizer.from_file(str(run / "tokenizer.json"))
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    deep = recipe.phase(state["step"] - 1) == "deep"
    model = build_model(recipe, tokenizer, recipe.size.decoder_layers if deep else recipe.shallow_layers)
    model.load_state_dict(state["model"])
    model = model if deep else grow(model, recipe, tokenizer)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    log = {
        "training_log.jsonl": (run / "log.jsonl").read_text(),
        "recipe.json": (run / "recipe.json").read_text(),
    }
    save_checkpoint(model, tokenizer, recipe.size, partial, log)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(partial, out)


def answers(folder: Path, asked: Sequence[Sample], batch_size: int = 64, device: str = "cpu") -> list[str]:
    """Greedy answers of a checkpoint through stock transformers, fp32, in the order asked."""
    import torch
    import transformers

    stock: Any = transformers  # much of it is untyped
    processor = stock.AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    loader = stock.AutoModelForImageTextToText
    model = loader.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval().to(device)
    said = [""] * len(asked)
    # Pictures cost most of the tokens: batches hold samples with equally many.
    by_pictures = sorted(range(len(asked)), key=lambda i: (len(asked[i].images), len(asked[i].prompt)))
    for batch in batches_of(by_pictures, asked, batch_size):
        chats = [chat_of(asked[i]) for i in batch]
        text = processor.apply_chat_template(chats, add_generation_prompt=True)
        pictures = [asked[i].load_images() for i in batch]
        inputs = processor(images=pictures, text=text, padding=True, return_tensors="pt").to(device)
        with torch.inference_mode():
            output = model.generate(**inputs)
        new = output[:, inputs["input_ids"].shape[1] :]
        for i, reply in zip(batch, processor.batch_decode(new, skip_special_tokens=True), strict=True):
            said[i] = reply
    return said


def batches_of(order: Sequence[int], asked: Sequence[Sample], size: int) -> Iterable[list[int]]:
    """Numbers of samples with equally many pictures, at most `size` together, in that order."""
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) == size or len(asked[batch[0]].images) != len(asked[i].images)):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def chat_of(sample: Sample) -> list[dict[str, Any]]:
    """What a chat template is given."""
    content = [{"type": "image"} for _ in sample.images] + [{"type": "text", "text": sample.prompt}]
    return [{"role": "user", "content": content}]


def accuracy_table(asked: Sequence[Sample], said: Sequence[str]) -> dict[str, dict[str, float]]:
    """Per category and overall: n, accuracy, chance (a random guess), blind (the commonest answer)."""
    right: dict[str, list[float]] = defaultdict(list)
    chance: dict[str, list[float]] = defaultdict(list)
    common: dict[str, Counter[str]] = defaultdict(Counter)
    for sample, text in zip(asked, said, strict=True):
        assert sample.answer is not None
        score = score_answer(sample.metric, text, sample.answer).score
        for category in (sample.category, "overall"):
            right[category].append(score)
            chance[category].append(sample.chance)
        common[sample.category][sample.answer] += 1
    blind = {category: counts.most_common(1)[0][1] / counts.total() for category, counts in common.items()}
    blind["overall"] = sum(c.most_common(1)[0][1] for c in common.values()) / len(asked)
    return {
        category: {
            "n": len(right[category]),
            "accuracy": sum(right[category]) / len(right[category]),
            "chance": sum(chance[category]) / len(right[category]),
            "blind": blind[category],
        }
        for category in (*common, "overall")
    }


def as_markdown(table: dict[str, dict[str, float]]) -> str:
    """The accuracy table in percent."""
    rows = ["| family | questions | accuracy % | chance % | commonest answer % |", "|---|---|---|---|---|"]
    for category, row in table.items():
        figures = " | ".join(f"{100 * row[name]:.1f}" for name in ("accuracy", "chance", "blind"))
        rows.append(f"| {category} | {row['n']:.0f} | {figures} |")
    return "\n".join(rows)


CARD = """---
license: apache-2.0
pipeline_tag: image-text-to-text
library_name: transformers
---
# topovlm reference LVLM

A small LVLM that was really trained, so that pruning it has something to lose: {parameters:,}
parameters, SigLIP tower of {vision_layers} layers, Qwen2 decoder of {layers} layers and width {width},
pictures of 48 x 48 pixels. Stock `LlavaForConditionalGeneration`; loads with transformers without any
code of ours.

It exists to exercise the toolchain. It knows coloured shapes, small charts, lettered diagrams, handwritten
digits and three-frame sequences, and nothing else.

## Accuracy

Greedy answers, fp32 on CPU, {count} held-out questions (seed {seed}), printed by
`python -m topovlm.reference.release --out <this folder>`. No test picture was trained on: for drawn scenes
and charts the whole content (what is where, which values in which colours) is held out, for digits and sums
the handwriting is (every pair of numbers may have been seen, never these digits).

*chance* is a random guess among the admissible answers, *commonest answer* the best that a constant reply
per family reaches.

{table}

## Training

`python -m topovlm.reference.train` with the recipe in `recipe.json`, log in `training_log.jsonl`:
{steps} steps, {hours:.2f} hours of wall time on {machine}.
Versions: {versions}.

The decoder was grown from {shallow} to {layers} layers by inserting identities, and middle layers were
skipped at random ({skip:.0%}) while the deep model trained (stochastic depth). **This makes its depth
more redundant than training alone would:** it bears layer removal better than a model of the same size
trained plainly, and its retention says nothing about how a published LVLM will fare.
{note}
Digits: scikit-learn's `load_digits` (UCI, CC BY 4.0). Everything else is drawn by `topovlm.reference.scenes`.
"""


def write_card(folder: Path, table: dict[str, dict[str, float]], machine: str, note: str = "") -> None:
    """README.md and accuracy.json of the shipped folder."""
    from safetensors import safe_open

    from topovlm.reference.train import versions

    config = read_json(folder / "config.json")
    recipe = read_json(folder / "recipe.json")
    log = [json_text.parse(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    with safe_open(folder / "model.safetensors", "np") as file:
        parameters = sum(_size(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    card = CARD.format(
        parameters=parameters,
        vision_layers=config["vision_config"]["num_hidden_layers"],
        layers=config["text_config"]["num_hidden_layers"],
        width=config["text_config"]["hidden_size"],
        count=int(table["overall"]["n"]),
        seed=TEST_SEED,
        table=as_markdown(table),
        steps=log[-1]["step"],
        hours=log[-1]["seconds"] / 3600,
        machine=machine,
        versions=", ".join(f"{k} {v}" for k, v in versions().items()),
        shallow=recipe["shallow_layers"],
        skip=recipe["layer_skip"],
        note=f"\n{note}\n" if note else "",
    )
    (folder / "README.md").write_text(card)
    (folder / "accuracy.json").write_text(json.dumps(table, indent=2) + "\n")


def _size(shape: Sequence[int]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a training run to release; without it only measure --out")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--machine", default="an unnamed machine", help="what the run trained on, for the card"
    )
    parser.add_argument("--note", default="", help="what else a reader of the card should know of the run")
    parser.add_argument("--count", type=int, default=TEST_COUNT)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.run:
        export_run(arguments.run, arguments.out)
    asked = samples("test", arguments.count, TEST_SEED)
    table = accuracy_table(asked, answers(arguments.out, asked, device=arguments.device))
    if arguments.run:
        write_card(arguments.out, table, arguments.machine, arguments.note)
    print(as_markdown(table))


if __name__ == "__main__":
    main()
