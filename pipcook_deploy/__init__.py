"""The deploy stage of a machine-learning pipeline: convert, verify, bundle and serve trained models."""

__version__ = "0.1.0"
