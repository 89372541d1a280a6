"""Videos as a model sees them: frames of a clip, decoded in order and chosen by a rule that has a name."""
