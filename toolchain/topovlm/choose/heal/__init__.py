"""Healing a slim model: a short training of what lies beside its cuts, taught by the dense model."""
