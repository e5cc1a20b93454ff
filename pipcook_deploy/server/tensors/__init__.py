"""Tensors on the wire: JSON and raw bytes."""
