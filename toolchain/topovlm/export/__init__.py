"""Checkpoint -> ONNX graphs, TensorRT bundles and engines, each checked against torch before it is kept."""
