"""Our models as other people's evaluation harnesses ask them; each harness imports its own module here."""
