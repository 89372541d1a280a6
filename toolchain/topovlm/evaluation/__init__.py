"""Answers to questions: what a task is, the metrics that score a text, the evaluation of an engine."""
