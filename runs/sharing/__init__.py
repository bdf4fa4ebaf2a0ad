"""Artifacts and public links."""
