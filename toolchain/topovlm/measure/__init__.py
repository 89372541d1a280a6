"""Latency, memory and profiles, measured on this machine or on a device over a connection."""
