"""Declared preprocessing: a closed set of operations with exact formulas, run the same everywhere."""
