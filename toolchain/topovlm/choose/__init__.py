"""Which layers go: hidden states, scorers, the judge of whole sets, the search; repair and healing of cuts."""
