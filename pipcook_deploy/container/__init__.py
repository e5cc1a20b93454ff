"""What runs inside a container beside the server: its first process, and its health check."""
