"""Which tools a run has, and what the built-in ones do."""
