"""Makes models smaller and faster: passes over models, and the search for what fits a budget."""
