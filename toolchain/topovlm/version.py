"""The version of topovlm; what is built and every record that names it read it here."""

__version__ = "0.1.0"
