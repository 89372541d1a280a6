"""Which layers go: hidden states, scorers, the judge of whole sets, the search, the repair of the cuts."""
