"""Latency and memory predicted from a target's published, calibrated or measured figures."""
