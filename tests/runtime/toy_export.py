"""A tiny exported folder, written with onnx.helper alone, and its numpy oracle without any cache.

The decoder is a real (if small) pre-norm-free transformer: residual stream, causal attention over the cache,
positions, a tied-free head. So cache, position, mask and image-order mistakes change its tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

IMAGE_ID, EOS_ID = 1, 2
WORDS = ["<unk>", "<image>", "<|end|>", "<|user|>", "<|assistant|>"]
WORDS += ["what", "colour", "is", "the", "ball", "red", "blue"]


@dataclass(frozen=True)
class Toy:
    """Shapes and switches of the toy; weights follow from `seed`."""

    layers: int = 3
    hidden: int = 16
    kv_heads: int = 2
    vocab: int = 40
    tokens_per_image: int = 4
    side: int = 8
    seed: int = 0
    position_ids: bool = True
    fixed_batch: bool = False
    flat_features: bool = False
    float_type: int = TensorProto.FLOAT
    id_type: int = TensorProto.INT64
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        h, scale = self.hidden, 1.0 / np.sqrt(self.hidden)
        shapes = {"table": (self.vocab, h), "position": (512, h), "head": (h, self.vocab)}
        shapes["project"] = (3 * self.side * self.side, self.tokens_per_image * h)
        for layer in range(self.layers):
            shapes |= {f"{name}{layer}": (h, h) for name in ("q", "k", "v", "o", "m")}
        for name, shape in shapes.items():
            factor = 1.0 if name in ("table", "position") else (0.1 if name == "project" else scale)
            self.weights[name] = (rng.standard_normal(shape) * factor).astype(np.float32)
        self.weights["head"][:, EOS_ID] *= 1.4  # so that some answers end early

    @property
    def head_dim(self) -> int:
        return self.hidden // self.kv_heads

    # -- the oracle ---------------------------------------------------------------------------------
    def features(self, pixels: np.ndarray) -> np.ndarray:
        """`[n, 3, H, W]` -> `[n * tokens, hidden]`."""
        return (pixels.reshape(len(pixels), -1) @ self.weights["project"]).reshape(-1, self.hidden)

    def logits(self, ids: np.ndarray, pixels: np.ndarray | None) -> np.ndarray:
        """Logits of the next token after `ids` `[S]`, everything recomputed."""
        w, size = self.weights, len(ids)
        x = w["table"][ids].copy()
        if pixels is not None:
            features = self.features(pixels)  # an image token that was generated stays a plain token
            x[np.flatnonzero(ids == IMAGE_ID)[: len(features)]] = features
        x = x + w["position"][:size]
        causal = np.tril(np.ones((size, size), bool))
        for layer in range(self.layers):
            q, k, v = (
                (x @ w[f"{n}{layer}"]).reshape(size, self.kv_heads, -1).transpose(1, 0, 2) for n in "qkv"
            )
            scores = np.where(causal, q @ k.transpose(0, 2, 1) / np.sqrt(self.head_dim), -1e9)
            share = np.exp(scores - scores.max(-1, keepdims=True))
            mixed = (share / share.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(size, -1)
            x = x + mixed @ w[f"o{layer}"]
            x = x + np.tanh(x @ w[f"m{layer}"])
        return x[-1] @ w["head"]

    def generate(self, ids: np.ndarray, pixels: np.ndarray | None, count: int) -> list[int]:
        """Greedy tokens, the end token included."""
        out: list[int] = []
        while len(out) < count and (not out or out[-1] != EOS_ID):
            out.append(int(self.logits(np.append(ids, out).astype(int), pixels).argmax()))
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
            "schema": 1,
            "prompt": {"prefix": "<|user|>", "image": "<image>", "suffix": "<|end|><|assistant|>"},
            "image_token_id": IMAGE_ID, "tokens_per_image": self.tokens_per_image, "eos_token_ids": [EOS_ID],
            "image": {"height": self.side, "width": self.side, "resample": 3, "rescale_factor": 1 / 255,
                      "mean": [0.5] * 3, "std": [0.5] * 3},
            "decoder": {"layers": self.layers, "kv_heads": self.kv_heads, "head_dim": self.head_dim,
                        "hidden": self.hidden, "vocab": self.vocab},
            "graphs": graphs, "source_config_sha256": "0" * 64,
        }  # fmt: skip
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        (folder / "topovlm_runtime.json").write_text(json.dumps(manifest))
        return folder

    def _model(self, nodes: list, inputs: list, outputs: list, weights: list[str], extra: dict) -> object:
        real = helper.tensor_dtype_to_np_dtype(self.float_type)
        tensors = [numpy_helper.from_array(self.weights[name].astype(real), name) for name in weights]
        tensors += [numpy_helper.from_array(np.asarray(value), name) for name, value in extra.items()]
        graph = helper.make_graph(nodes, "toy", inputs, outputs, tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    def _vision(self) -> object:
        shape = [-1, self.hidden] if self.flat_features else [0, self.tokens_per_image, self.hidden]
        flatten = ["n", "h"] if self.flat_features else ["n", self.tokens_per_image, self.hidden]
        nodes = [
            helper.make_node("Flatten", ["pixel_values"], ["flat"]),
            helper.make_node("MatMul", ["flat", "project"], ["wide"]),
            helper.make_node("Reshape", ["wide", "shape"], ["image_features"]),
        ]
        pixels = helper.make_tensor_value_info(
            "pixel_values", self.float_type, ["n", 3, self.side, self.side]
        )
        features = helper.make_tensor_value_info("image_features", self.float_type, flatten)
        return self._model(nodes, [pixels], [features], ["project"], {"shape": np.array(shape, np.int64)})

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

        batch: int | str = 1 if self.fixed_batch else "batch_size"
        real = helper.tensor_dtype_to_np_dtype(self.float_type)
        total = op("Gather", [op("Shape", ["attention_mask"], "mask_shape"), "one"], "total")
        keys = op("Range", ["zero", total, "one"], "key_positions")
        if self.position_ids:
            wide = op("Cast", ["position_ids"], "wide_positions", to=TensorProto.INT64)
        else:
            new = op("Gather", [op("Shape", ["inputs_embeds"], "embeds_shape"), "one"], "new")
            row = op("Range", [op("Sub", [total, new], "past_length"), total, "one"], "row")
            wide = op("Unsqueeze", [row, "axis0"], "wide_positions")
        queries = op("Unsqueeze", [op("Unsqueeze", [wide, "axis1"], "query3d"), "axis3"], "query4d")
        causal = op("GreaterOrEqual", [queries, keys], "causal")
        kept = op("Cast", ["attention_mask"], "kept", to=TensorProto.BOOL)
        kept4 = op("Unsqueeze", [op("Unsqueeze", [kept, "axis1"], "kept3"), "axis1"], "kept4")
        visible = op("And", [causal, kept4], "visible")
        x = op("Add", ["inputs_embeds", op("Gather", ["position", wide], "place")], "x")
        info = helper.make_tensor_value_info
        inputs = [
            info("inputs_embeds", self.float_type, [batch, "sequence_length", self.hidden]),
            info("attention_mask", self.id_type, [batch, "total_sequence_length"]),
        ]
        if self.position_ids:
            inputs.append(info("position_ids", self.id_type, [batch, "sequence_length"]))
        outputs = [info("logits", self.float_type, [batch, "sequence_length", self.vocab])]
        for i in range(self.layers):
            heads = {}
            for name in "qkv":
                flat = op("MatMul", [x, f"{name}{i}"], f"{name}_flat{i}")
                split = op("Reshape", [flat, "split"], f"{name}_split{i}")
                heads[name] = op("Transpose", [split], f"{name}_heads{i}", perm=[0, 2, 1, 3])
            for name, kind in (("k", "key"), ("v", "value")):
                shape = [batch, self.kv_heads, f"past_{kind}_length", self.head_dim]
                past, present = f"past_key_values.{i}.{kind}", f"present.{i}.{kind}"
                inputs.append(info(past, self.float_type, shape))
                outputs.append(info(present, self.float_type, [*shape[:2], "total", self.head_dim]))
                op("Concat", [past, heads[name]], present, axis=2)
            turned = op("Transpose", [f"present.{i}.key"], f"kt{i}", perm=[0, 1, 3, 2])
            scores = op("Mul", [op("MatMul", [heads["q"], turned], f"qk{i}"), "scale"], f"scores{i}")
            share = op(
                "Softmax", [op("Where", [visible, scores, "never"], f"masked{i}")], f"share{i}", axis=-1
            )
            mixed = op("MatMul", [share, f"present.{i}.value"], f"mixed{i}")
            joined = op(
                "Reshape", [op("Transpose", [mixed], f"mt{i}", perm=[0, 2, 1, 3]), "join"], f"joined{i}"
            )
            x = op("Add", [x, op("MatMul", [joined, f"o{i}"], f"attn{i}")], f"mid{i}")
            x = op("Add", [x, op("Tanh", [op("MatMul", [x, f"m{i}"], f"mlp{i}")], f"act{i}")], f"out{i}")
        op("MatMul", [x, "head"], "logits")
        weights = ["position", "head", *(f"{n}{i}" for i in range(self.layers) for n in "qkvom")]
        extra = {
            "zero": np.int64(0), "one": np.int64(1), "axis0": np.array([0], np.int64),
            "axis1": np.array([1], np.int64), "axis3": np.array([3], np.int64),
            "split": np.array([0, 0, self.kv_heads, self.head_dim], np.int64),
            "join": np.array([0, 0, self.hidden], np.int64),
            "scale": np.asarray(1 / np.sqrt(self.head_dim), real), "never": np.asarray(-1e4, real),
        }  # fmt: skip
        return self._model(nodes, inputs, outputs, weights, extra)
