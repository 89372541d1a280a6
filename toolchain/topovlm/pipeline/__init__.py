"""The stages of a deployment in order, what each depends on, and the run directory that keeps them."""
