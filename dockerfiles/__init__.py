"""Files that describe container images."""
