"""The check of every graph's interface, and saving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm.errors import VerificationError, explain
from topovlm.exporters.onnx.layouts import SINGLE_FILE_BYTES
from topovlm.runtime.runtime_file import DecoderSizes

if TYPE_CHECKING:
    import onnx_ir as ir

Dims = Sequence[int | str]


def check_interface(model: ir.Model, inputs: Mapping[str, Dims], outputs: Mapping[str, Dims]) -> None:
    """Names, order and dimensions (numbers and literal symbols) of a graph, against what clients expect.

    Raises `VerificationError` naming the first difference.
    """
    for kind, values, expected in (
        ("input", model.graph.inputs, inputs),
        ("output", model.graph.outputs, outputs),
    ):
        found = {str(value.name): value for value in values}
        if list(found) != list(expected):
            raise VerificationError(explain(f"{kind} names", list(found), f"must be {list(expected)}"))
        for name, dims in expected.items():
            shape = found[name].shape
            have = [] if shape is None else [dim if isinstance(dim, int) else dim.value for dim in shape]
            if have != list(dims):
                raise VerificationError(explain(f"{kind} {name}: dimensions", have, f"must be {list(dims)}"))


def decoder_interface(
    sizes: DecoderSizes, batch: int | str, *, blocks: bool = False
) -> tuple[dict[str, Dims], dict[str, Dims]]:
    """Inputs and outputs of a decoder graph with their dimensions.

    `batch` is `batch_size` or 1; `blocks`: whether it is told which tokens see each other whole.
    """
    new, past, total = "sequence_length", "past_sequence_length", "total_sequence_length"
    inputs: dict[str, Dims] = {
        "inputs_embeds": [batch, new, sizes.hidden],
        "attention_mask": [batch, total],
        "position_ids": [batch, new] if sizes.rows == 1 else [sizes.rows, batch, new],
    }
    if blocks:
        inputs["block_ids"] = [batch, new]
    for i in range(sizes.stacked):
        inputs[f"deepstack_embeds.{i}"] = [batch, new, sizes.hidden]
    outputs: dict[str, Dims] = {"logits": [batch, "num_logits_to_keep", sizes.vocab]}
    for i in range(sizes.layers):
        for kind in ("key", "value"):
            inputs[f"past_key_values.{i}.{kind}"] = [batch, sizes.kv_heads, past, sizes.head_dim]
            outputs[f"present.{i}.{kind}"] = [batch, sizes.kv_heads, total, sizes.head_dim]
    inputs["num_logits_to_keep"] = []
    return inputs, outputs


def save_graph(model: ir.Model, path: Path, single_file_bytes: int = SINGLE_FILE_BYTES) -> None:
    """Save; weights of more than `single_file_bytes` go to `<name>.onnx_data` beside it."""
    import onnx_ir as ir

    path.parent.mkdir(parents=True, exist_ok=True)
    held = (value.const_value for value in model.graph.initializers.values())
    external = sum(tensor.nbytes for tensor in held if tensor is not None) > single_file_bytes
    ir.save(model, path, external_data=f"{path.name}_data" if external else None)
