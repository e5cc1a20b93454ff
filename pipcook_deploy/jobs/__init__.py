"""Child processes that do the heavy work, several at once."""
