"""What computes: one small interface, one module an engine."""
