"""The stages of a deployment, each a thin, cached call into the package that does the work."""
