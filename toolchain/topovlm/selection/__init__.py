"""Which layers may go: scorers propose from hidden states, the judge decides by the model's own answers."""
