"""Peak memory of a deployed model: weights, caches and what the runtime adds.

Form of the published memory tables: W_linear(dtype) + W_head(fp16) + W_embed(fp16, stored again when
tied) + W_vision(fp16) + KV(capacity) + a fixed share + a share of the weights in four bits + the vision
engine's own memory, by the image tokens it is built for. The last three are fitted (`efficiencies.json`).
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from topovlm.families.shape import ModelShape
from topovlm.families.vision import visual_tokens
from topovlm.predict.prediction_interval import PredictionInterval
from topovlm.predict.weight_formats import ACTIVATION_BYTES, WeightFormat
from topovlm.records import Part
from topovlm.workload import Workload

# Vision engines are built for pictures of at least this many tokens.
_LEAST_IMAGE_TOKENS = 2048
# The published peaks are of these; of other formats it is only sure what they must hold.
_PUBLISHED, _SHARED_BITS = "w4a16", 4.125
# An engine builder holds the weights of the network several times: field reports say three to four.
_BUILD_COPIES = 4.0


class MemoryModel(Part, frozen=True, kw_only=True):
    """Fitted constants of the runtime's own memory, and their relative error (`spread`).

    `share_of_weights`: of the layers' weights as four bits hold them, whatever their format.

    `held_out_median`: median relative error on models left out of the fit; `rows`: published peaks it used.
    """

    fixed_bytes: float
    share_of_weights: float
    bytes_per_image_token: float
    spread: float
    held_out_median: float
    rows: int


class MemoryEstimate(Part, frozen=True, kw_only=True):
    """Parts in bytes, their sum, the largest single allocation, and what building an engine needs."""

    weights_bytes: int
    head_bytes: int
    embedding_bytes: int
    vision_bytes: int
    kv_cache_bytes: int
    runtime_bytes: int
    largest_allocation_bytes: int
    engine_build_bytes: int
    total_bytes: PredictionInterval

    def rounded(self) -> MemoryEstimate:
        """The sum to the digits that are stored and printed."""
        return msgspec.structs.replace(self, total_bytes=self.total_bytes.rounded())


def estimate_memory(
    shape: ModelShape,
    workload: Workload,
    keep_layers: int,
    fmt: WeightFormat,
    model: MemoryModel,
) -> MemoryEstimate:
    """Memory with `keep_layers` decoder layers; the cache holds one full request per batch element."""
    decoder, vision = shape.decoder, shape.vision
    tokens = visual_tokens(shape, workload)
    weights = keep_layers * decoder.linear_params_per_layer * fmt.bytes_per_weight
    head = decoder.head_params * max(ACTIVATION_BYTES, 4 if fmt.name == "fp32" else 0)
    tower = vision.params * (4 if fmt.name == "fp32" else ACTIVATION_BYTES) if vision else 0
    capacity = workload.batch * (tokens + workload.prompt_tokens + workload.new_tokens)
    kv_cache = capacity * keep_layers * decoder.kv_values_per_token_layer * ACTIVATION_BYTES
    unpacked = keep_layers * decoder.linear_params_per_layer * _SHARED_BITS / 8
    built_for = max(_LEAST_IMAGE_TOKENS, tokens) if vision else 0
    runtime = model.fixed_bytes + model.share_of_weights * unpacked + model.bytes_per_image_token * built_for
    # Input embedding and output head are both held, in two engines, even where they share weights.
    total = weights + head + head + tower + kv_cache + runtime
    held = PredictionInterval.around(total, model.spread)
    if fmt.name != _PUBLISHED:
        held = replace(
            held, low=min(held.low, weights + head * (1 if decoder.tied else 2) + tower + kv_cache)
        )
    return MemoryEstimate(
        weights_bytes=round(weights),
        head_bytes=round(head),
        embedding_bytes=round(head),
        vision_bytes=round(tower),
        kv_cache_bytes=round(kv_cache),
        runtime_bytes=round(runtime),
        largest_allocation_bytes=round(max(weights + head, tower, head)),
        engine_build_bytes=round(_BUILD_COPIES * max(weights + head, tower)),
        total_bytes=held,
    )
