"""Many deployments: every combination of models, targets and budgets, each in a run directory of its own."""
