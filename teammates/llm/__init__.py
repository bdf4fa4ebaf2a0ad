"""Providers, models, prices."""
