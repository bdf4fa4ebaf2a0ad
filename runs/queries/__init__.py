"""What lists, pages and APIs show of runs."""
