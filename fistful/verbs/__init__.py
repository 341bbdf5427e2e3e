"""A folder a verb that has no room of its own."""
