"""Runtimes that a plan can speak for, and what is known of each besides its fitted constants."""

from __future__ import annotations

import math

from topovlm.errors import InputError, explain

# What `--runtime` takes. `tensorrt`: engines run by trtexec or one's own loop; `edge-llm`: TensorRT Edge-LLM.
RUNTIMES = ("tensorrt", "edge-llm", "onnxruntime", "llamacpp")
# These run the same kernels: what is known of one is a better guess for the other than any third.
_ENGINES = {"edge-llm": "tensorrt", "torch2trt": "tensorrt"}
# A longer prompt goes through the decoder in pieces of this many tokens, each of which reads all weights.
_PASS_TOKENS = {"llamacpp": 512}


def runtime_named(name: str) -> str:
    """`name`, when it is a runtime. Raises `InputError` listing them."""
    if name not in RUNTIMES:
        remedy = f"One of {', '.join(RUNTIMES)}"
        raise InputError(explain("--runtime", name, "is not a runtime that can be planned for", remedy))
    return name


def engine(runtime: str) -> str:
    """Whose kernels it runs."""
    return _ENGINES.get(runtime, runtime)


def unpacks(runtime: str, version: str) -> bool:
    """Whether a prompt's packed weights are written out in 16 bits first, for the products of cuBLAS.

    llama.cpp did until June 2024 (its pull request 8075).
    """
    return (runtime, version) == ("llamacpp", "2024")


def passes(runtime: str, prompt_tokens: int) -> int:
    """How often a prompt reads the decoder's weights."""
    return max(1, math.ceil(prompt_tokens / _PASS_TOKENS.get(runtime, prompt_tokens or 1)))
