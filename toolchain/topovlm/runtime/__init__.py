"""Torch-free generation and timing on ONNX Runtime: what runs on a device.

Needs numpy, onnxruntime, tokenizers, Pillow, Jinja2 and msgspec only.
"""
