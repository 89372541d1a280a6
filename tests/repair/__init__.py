"""Tests of topovlm.repair."""
