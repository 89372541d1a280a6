"""Which layers go: hidden states, scorers, the judge of whole sets, search, repair and healing of cuts."""
