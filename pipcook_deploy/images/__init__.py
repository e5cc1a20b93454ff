"""Container images: described, built, booted, signed and pushed."""
