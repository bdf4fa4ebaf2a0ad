"""The two contracts."""
