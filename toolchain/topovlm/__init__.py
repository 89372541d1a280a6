"""topovlm: make a vision-language model meet its board's latency and memory budget."""

__version__ = "0.1.0"
