"""Checkpoints on disk and in memory: what families share, how layers leave, how the result is verified.

`families`, `checkpoint` and `surgery` need no torch; `live` and `verify` do.
"""
