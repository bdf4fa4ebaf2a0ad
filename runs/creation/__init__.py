"""Every way of asking for a run."""
