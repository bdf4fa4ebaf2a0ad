"""Runs over contract v1."""
