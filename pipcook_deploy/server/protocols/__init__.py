"""The protocols that the server speaks, a module each: handlers, and how errors are worded."""
