"""The models of the server: loaded, queued for, replaced."""
