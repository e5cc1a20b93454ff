"""What the people who run it at night see: metrics and logs."""
