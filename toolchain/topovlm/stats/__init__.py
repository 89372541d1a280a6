"""Intervals, paired tests and the statistics of timings."""
