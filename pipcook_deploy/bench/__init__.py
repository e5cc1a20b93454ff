"""How fast an artifact answers in its own runtime."""
