"""Readers that tell what a source is by its content and turn it into a `Model`."""
