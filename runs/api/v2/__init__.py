"""Runs over contract v2."""
