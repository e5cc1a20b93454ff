"""The user's data: read in a stream, preprocessed as in serving, divided into disjoint splits."""
