"""What commands import, and take seconds for: imported once, before processes for them are forked."""

from __future__ import annotations

from importlib import import_module

import transformers

for name in ("onnxruntime", "topovlm.checkpoint.live", "topovlm.pipeline.deploy"):
    import_module(name)
for name in ("AutoModelForImageTextToText", "AutoProcessor", "LlavaForConditionalGeneration"):
    getattr(transformers, name)
