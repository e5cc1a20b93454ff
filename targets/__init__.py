"""Targets: one module each, found through entry points."""
