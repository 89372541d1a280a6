"""Tests of the towers."""
