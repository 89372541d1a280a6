"""A tiny exported folder, written with onnx.helper alone, and its numpy oracle without any cache.

The decoder is a real (if small) pre-norm-free transformer: residual stream, causal attention over the cache,
positions, a tied-free head. So cache, position, mask and image-order mistakes change its tokens. On request
it has what some families ask for: positions of three rows, pictures that see themselves whole, picture
features behind the first layers, logits of the last rows alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from topovlm.travel.prompts import Prompt

TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' }}"
    "{% for c in m.content %}{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PATCH = 4  # px
ROW_STEP = 150  # every row of positions has a part of the table of its own
IMAGE_ID, EOS_ID = 1, 2
WORDS = ["<unk>", "<image>", "<|end|>", "<|user|>", "<|assistant|>"]
WORDS += ["what", "colour", "is", "the", "ball", "red", "blue"]


@dataclass(frozen=True)
class Toy:
    """Shapes and switches of the toy; weights follow from `seed`.

    `rows`: of position_ids. `blocks`: each picture sees itself whole. `stacked`: layers with features of the
    pictures behind them. `keeps`: the graph can be asked for the last logits alone.
    """

    layers: int = 3
    hidden: int = 16
    kv_heads: int = 2
    vocab: int = 40
    side: int = 8
    seed: int = 0
    position_ids: bool = True
    fixed_batch: bool = False
    flat_features: bool = False
    rows: int = 1
    blocks: bool = False
    stacked: int = 0
    keeps: bool = False
    float_type: int = TensorProto.FLOAT
    id_type: int = TensorProto.INT64
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        h, scale = self.hidden, 1.0 / np.sqrt(self.hidden)
        shapes = {"table": (self.vocab, h), "position": (512, h), "head": (h, self.vocab)}
        wide = (3 * self.side * self.side, self.tokens_per_image * h)
        shapes["project"] = wide
        shapes |= {f"deep{layer}": wide for layer in range(self.stacked)}
        for layer in range(self.layers):
            shapes |= {f"{name}{layer}": (h, h) for name in ("q", "k", "v", "o", "m")}
        for name, shape in shapes.items():
            factor = 1.0 if name in ("table", "position") else (0.1 if shape == wide else scale)
            self.weights[name] = (rng.standard_normal(shape) * factor).astype(np.float32)
        self.weights["head"][:, EOS_ID] *= 1.4  # so that some answers end early

    @property
    def head_dim(self) -> int:
        return self.hidden // self.kv_heads

    @property
    def tokens_per_image(self) -> int:
        return (self.side // PATCH) ** 2

    # -- the oracle ---------------------------------------------------------------------------------
    def features(self, prompt: Prompt, weight: str) -> np.ndarray:
        """Rows of all pictures, `[tokens, hidden]`."""
        pixels = np.concatenate([feeds["pixel_values"] for feeds in prompt.pictures])
        return (pixels.reshape(len(pixels), -1) @ self.weights[weight]).reshape(-1, self.hidden)

    def logits(self, prompt: Prompt, answer: list[int] | None = None) -> np.ndarray:
        """Logits of the token after `prompt` and the tokens of its answer, everything recomputed."""
        answer = answer or []
        w, before = self.weights, len(prompt.ids)
        ids, size = np.append(prompt.ids, answer).astype(int), before + len(answer)
        later = prompt.next_position + np.arange(len(answer))
        known = prompt.positions.reshape(self.rows, before)
        positions = np.concatenate([known, np.broadcast_to(later, (self.rows, len(answer)))], axis=1)
        # An image token that was generated stays a plain token.
        places = np.flatnonzero(prompt.ids == IMAGE_ID)
        x = w["table"][ids].copy()
        if prompt.pictures:
            x[places] = self.features(prompt, "project")
        for row in range(self.rows):
            x = x + w["position"][positions[row] + row * ROW_STEP]
        seen = np.tril(np.ones((size, size), bool))
        if self.blocks and prompt.block_ids is not None:
            held = np.append(prompt.block_ids, np.zeros(len(answer), int))
            seen |= (held[:, None] == held) & (held > 0)
        for layer in range(self.layers):
            q, k, v = (
                (x @ w[f"{n}{layer}"]).reshape(size, self.kv_heads, -1).transpose(1, 0, 2) for n in "qkv"
            )
            scores = np.where(seen, q @ k.transpose(0, 2, 1) / np.sqrt(self.head_dim), -1e9)
            share = np.exp(scores - scores.max(-1, keepdims=True))
            mixed = (share / share.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(size, -1)
            x = x + mixed @ w[f"o{layer}"]
            x = x + np.tanh(x @ w[f"m{layer}"])
            if layer < self.stacked and prompt.pictures:
                x[places] += self.features(prompt, f"deep{layer}")
        return x[-1] @ w["head"]

    def generate(self, prompt: Prompt, count: int) -> list[int]:
        """Greedy tokens, the end token included."""
        out: list[int] = []
        while len(out) < count and (not out or out[-1] != EOS_ID):
            out.append(int(self.logits(prompt, out).argmax()))
        return out

    # -- the graphs ---------------------------------------------------------------------------------
    def write(self, folder: Path, variants: tuple[str, ...] = ("plain",)) -> Path:
        """Write an exported folder and return it."""
        (folder / "onnx").mkdir(parents=True)
        save(self._vision(), folder / "onnx/vision_encoder.onnx")
        save(self._embed(), folder / "onnx/embed_tokens.onnx")
        graphs = {"vision": "onnx/vision_encoder.onnx", "embed": "onnx/embed_tokens.onnx"}
        for variant in variants:
            suffix = "" if variant == "plain" else f"_{variant}"
            graphs[f"decoder{suffix}"] = f"onnx/decoder_model_merged{suffix}.onnx"
            save(self._decoder(), folder / graphs[f"decoder{suffix}"])
        vocab = {word: i for i, word in enumerate(WORDS)}
        vocab |= {f"w{i}": i for i in range(len(WORDS), self.vocab)}
        special = [
            {"id": i, "content": w, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False}
            for i, w in enumerate(WORDS[:5])
        ]  # fmt: skip
        tokenizer = {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
            "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None,
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
        }  # fmt: skip
        manifest = {
            "schema": 2,
            "model_type": "llava",
            "prompt": {"form": "template", "add_special_tokens": False, "parts": True},
            "strategy": "fixed",
            "image_token_id": IMAGE_ID, "eos_token_ids": [EOS_ID],
            "mask": "blocks" if self.blocks else "causal",
            "decoder": {"layers": self.layers, "kv_heads": self.kv_heads, "head_dim": self.head_dim,
                        "hidden": self.hidden, "vocab": self.vocab, "rows": self.rows,
                        "stacked": self.stacked},
            "graphs": graphs, "source_config_sha256": "0" * 64,
        }  # fmt: skip
        texts = {
            "tokenizer.json": tokenizer,
            "tokenizer_config.json": {},
            "config.json": self.config(),
            "preprocessor_config.json": {
                "image_processor_type": "SiglipImageProcessor", "resample": 3, "rescale_factor": 1 / 255,
                "size": {"height": self.side, "width": self.side},
                "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
            },
            "topovlm_runtime.json": manifest,
        }  # fmt: skip
        for name, content in texts.items():
            (folder / name).write_text(json.dumps(content))
        (folder / "chat_template.jinja").write_text(TEMPLATE)
        return folder

    def config(self) -> dict[str, object]:
        """config.json of a checkpoint with these sizes."""
        common = {"hidden_size": self.hidden, "num_attention_heads": self.kv_heads}
        return {
            "model_type": "llava",
            "image_token_index": IMAGE_ID,
            "vision_feature_select_strategy": "full",
            "text_config": {
                **common, "model_type": "qwen2", "num_hidden_layers": self.layers, "intermediate_size": 32,
                "num_key_value_heads": self.kv_heads, "vocab_size": self.vocab,
                "max_position_embeddings": 512,
            },
            "vision_config": {
                **common, "model_type": "siglip_vision_model", "num_hidden_layers": 1,
                "intermediate_size": 32, "image_size": self.side, "patch_size": PATCH,
            },
        }  # fmt: skip

    def _model(self, nodes: list, inputs: list, outputs: list, weights: list[str], extra: dict) -> object:
        real = helper.tensor_dtype_to_np_dtype(self.float_type)
        tensors = [numpy_helper.from_array(self.weights[name].astype(real), name) for name in weights]
        tensors += [numpy_helper.from_array(np.asarray(value), name) for name, value in extra.items()]
        graph = helper.make_graph(nodes, "toy", inputs, outputs, tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    def _vision(self) -> object:
        shape = [-1, self.hidden] if self.flat_features else [0, self.tokens_per_image, self.hidden]
        flatten = ["n", "h"] if self.flat_features else ["n", self.tokens_per_image, self.hidden]
        names = {"project": "image_features"}
        names |= {f"deep{i}": f"deepstack_features.{i}" for i in range(self.stacked)}
        nodes = [helper.make_node("Flatten", ["pixel_values"], ["flat"])]
        for weight, output in names.items():
            nodes.append(helper.make_node("MatMul", ["flat", weight], [f"wide_{weight}"]))
            nodes.append(helper.make_node("Reshape", [f"wide_{weight}", "shape"], [output]))
        pixels = helper.make_tensor_value_info(
            "pixel_values", self.float_type, ["n", 3, self.side, self.side]
        )
        outputs = [helper.make_tensor_value_info(name, self.float_type, flatten) for name in names.values()]
        return self._model(nodes, [pixels], outputs, list(names), {"shape": np.array(shape, np.int64)})

    def _embed(self) -> object:
        node = helper.make_node("Gather", ["table", "input_ids"], ["inputs_embeds"])
        ids = helper.make_tensor_value_info("input_ids", self.id_type, ["batch_size", "sequence_length"])
        out = helper.make_tensor_value_info(
            "inputs_embeds", self.float_type, ["batch_size", "sequence_length", 16]
        )
        return self._model([node], [ids], [out], ["table"], {})

    def _decoder(self) -> object:
        nodes: list = []

        def op(kind: str, inputs: list[str], output: str, **attributes: object) -> str:
            nodes.append(helper.make_node(kind, inputs, [output], **attributes))
            return output

        visible, x = self._prelude(op)
        for i in range(self.layers):
            x = self._layer(op, i, x, visible)
        if self.keeps:
            start = op("Reshape", [op("Neg", ["num_logits_to_keep"], "minus"), "axis1"], "start")
            x = op("Slice", [x, start, "far", "axis1"], "last")
        op("MatMul", [x, "head"], "logits")
        weights = ["position", "head", *(f"{n}{i}" for i in range(self.layers) for n in "qkvom")]
        real = helper.tensor_dtype_to_np_dtype(self.float_type)
        extra = {
            "zero": np.int64(0), "one": np.int64(1), "axis0": np.array([0], np.int64),
            "axis1": np.array([1], np.int64), "axis2": np.array([2], np.int64),
            "axis3": np.array([3], np.int64), "far": np.array([2**60], np.int64),
            "row_steps": ROW_STEP * np.arange(self.rows).reshape(-1, 1, 1),
            "split": np.array([0, 0, self.kv_heads, self.head_dim], np.int64),
            "join": np.array([0, 0, self.hidden], np.int64),
            "scale": np.asarray(1 / np.sqrt(self.head_dim), real), "never": np.asarray(-1e4, real),
            **({"num_logits_to_keep": np.int64(0)} if self.keeps else {}),
        }  # fmt: skip
        return self._model(nodes, *self._ports(), weights, extra)

    def _ports(self) -> tuple[list, list]:
        """Inputs and outputs of the decoder."""
        info, real, ids = helper.make_tensor_value_info, self.float_type, self.id_type
        batch: int | str = 1 if self.fixed_batch else "batch_size"
        tokens = [batch, "sequence_length"]
        inputs = [
            info("inputs_embeds", real, [*tokens, self.hidden]),
            info("attention_mask", ids, [batch, "total_sequence_length"]),
        ]
        if self.position_ids:
            inputs.append(info("position_ids", ids, [*([] if self.rows == 1 else [self.rows]), *tokens]))
        if self.blocks:
            inputs.append(info("block_ids", ids, tokens))
        inputs += [info(f"deepstack_embeds.{i}", real, [*tokens, self.hidden]) for i in range(self.stacked)]
        outputs = [info("logits", real, [batch, "logits_length", self.vocab])]
        for i in range(self.layers):
            for kind in ("key", "value"):
                shape = [batch, self.kv_heads, f"past_{kind}_length", self.head_dim]
                inputs.append(info(f"past_key_values.{i}.{kind}", real, shape))
                outputs.append(info(f"present.{i}.{kind}", real, [*shape[:2], "total", self.head_dim]))
        if self.keeps:
            inputs.append(info("num_logits_to_keep", TensorProto.INT64, []))
        return inputs, outputs

    def _prelude(self, op: Callable[..., str]) -> tuple[str, str]:
        """What may be seen, bool `[batch, 1, seq, total]`, and the embeddings with their positions."""
        total = op("Gather", [op("Shape", ["attention_mask"], "mask_shape"), "one"], "total")
        keys = op("Range", ["zero", total, "one"], "key_positions")
        new = op("Gather", [op("Shape", ["inputs_embeds"], "embeds_shape"), "one"], "new")
        past = op("Sub", [total, new], "past_length")
        slots = op("Unsqueeze", [op("Range", [past, total, "one"], "row"), "axis0"], "slots")
        queries = op("Unsqueeze", [op("Unsqueeze", [slots, "axis1"], "query3d"), "axis3"], "query4d")
        seen = op("GreaterOrEqual", [queries, keys], "causal")
        if self.blocks:
            # Zeros in front of the second axis: what is in the cache belongs to no picture.
            lengths = ["axis0", op("Unsqueeze", [past, "axis0"], "past1"), "axis0", "axis0"]
            padding = op("Concat", lengths, "block_pads", axis=0)
            held = op("Cast", ["block_ids"], "wide_blocks", to=TensorProto.INT64)
            of_keys = op("Pad", [held, padding], "key_blocks")
            one, other = op("Unsqueeze", [held, "axis2"], "b0"), op("Unsqueeze", [of_keys, "axis1"], "b1")
            same = op("And", [op("Equal", [one, other], "b2"), op("Greater", [one, "zero"], "b3")], "b4")
            seen = op("Or", [seen, op("Unsqueeze", [same, "axis1"], "same_block")], "seen")
        kept = op("Cast", ["attention_mask"], "kept", to=TensorProto.BOOL)
        kept4 = op("Unsqueeze", [op("Unsqueeze", [kept, "axis1"], "kept3"), "axis1"], "kept4")
        visible = op("And", [seen, kept4], "visible")
        wide = op("Cast", ["position_ids"], "wide", to=TensorProto.INT64) if self.position_ids else slots
        place = op("Gather", ["position", op("Add", [wide, "row_steps"], "stepped")], "places")
        summed = op("ReduceSum", [place, "axis0"], "place", keepdims=0)
        return visible, op("Add", ["inputs_embeds", summed], "x")

    def _layer(self, op: Callable[..., str], i: int, x: str, visible: str) -> str:
        heads = {}
        for name in "qkv":
            flat = op("MatMul", [x, f"{name}{i}"], f"{name}_flat{i}")
            split = op("Reshape", [flat, "split"], f"{name}_split{i}")
            heads[name] = op("Transpose", [split], f"{name}_heads{i}", perm=[0, 2, 1, 3])
        for name, kind in (("k", "key"), ("v", "value")):
            op("Concat", [f"past_key_values.{i}.{kind}", heads[name]], f"present.{i}.{kind}", axis=2)
        turned = op("Transpose", [f"present.{i}.key"], f"kt{i}", perm=[0, 1, 3, 2])
        scores = op("Mul", [op("MatMul", [heads["q"], turned], f"qk{i}"), "scale"], f"scores{i}")
        hidden = op("Where", [visible, scores, "never"], f"masked{i}")
        share = op("Softmax", [hidden], f"share{i}", axis=-1)
        mixed = op("MatMul", [share, f"present.{i}.value"], f"mixed{i}")
        turned = op("Transpose", [mixed], f"mt{i}", perm=[0, 2, 1, 3])
        joined = op("Reshape", [turned, "join"], f"joined{i}")
        x = op("Add", [x, op("MatMul", [joined, f"o{i}"], f"attn{i}")], f"mid{i}")
        x = op("Add", [x, op("Tanh", [op("MatMul", [x, f"m{i}"], f"mlp{i}")], f"act{i}")], f"out{i}")
        return op("Add", [x, f"deepstack_embeds.{i}"], f"stacked{i}") if i < self.stacked else x
