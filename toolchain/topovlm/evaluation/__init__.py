"""Answers to questions, scored and compared: metrics, paired statistics, evaluation of an engine."""
