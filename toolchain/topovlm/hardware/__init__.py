"""Targets, the latency and memory predictor, and measurement of real devices. Never imports torch."""
