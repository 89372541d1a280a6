"""Tests of topovlm.models."""
