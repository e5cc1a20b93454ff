"""The prediction server against its peers, and against what its parts can do. `python benchmarks/serving --help`."""
