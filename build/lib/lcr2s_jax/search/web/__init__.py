"""The page of an index."""
