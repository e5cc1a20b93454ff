"""Scripts that make an image's layers, inside its build: there is the standard library, and nothing else."""
