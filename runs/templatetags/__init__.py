"""Tags for pages that show what things cost."""
