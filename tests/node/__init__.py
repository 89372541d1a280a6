"""Exported folders in transformers.js under Node: a client that is not ours."""
