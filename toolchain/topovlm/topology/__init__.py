"""Topology of hidden states: layer clouds to graphs, graphs to the exact zigzag barcode, barcode to scores.

Imports neither torch nor transformers.
"""
