"""Teammates: made, found, reached."""
