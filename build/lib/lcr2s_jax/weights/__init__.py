"""Weights of many kinds: read, resized, exported."""
