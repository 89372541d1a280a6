"""Files that travel to a board: plain Python >= 3.8, nothing of topovlm, nothing but TensorRT's bindings."""
