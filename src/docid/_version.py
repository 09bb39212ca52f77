"""The version of docid."""

__version__ = "0.1.0"
