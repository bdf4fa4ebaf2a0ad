"""Who asks, how often, and what they changed: clients, limits, the audit log."""
