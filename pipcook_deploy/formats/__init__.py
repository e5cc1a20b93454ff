"""File formats read and written without the framework they come from."""
