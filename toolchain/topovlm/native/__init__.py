"""Families that transformers does not have: our classes for their checkpoints, on transformers' parts.

A family's record names the module (`native`). It has `configuration`, which gives what transformers' would
be of a normal config.json; `MODEL`, the class that loads the weights; `NAMES`, of tensors in a checkpoint and
in that class; `processor`, made of an image processor, a tokenizer and a template. No checkpoint's own code
is run.
"""
