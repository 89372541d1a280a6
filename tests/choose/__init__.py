"""Tests of topovlm.selection."""
