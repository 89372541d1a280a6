"""Shards of a stage on other processes and machines: the same results, sooner."""
