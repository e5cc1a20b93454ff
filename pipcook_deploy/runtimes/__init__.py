"""What runs a model, for verification: one module each."""
