"""Saved work, and its lessons."""
