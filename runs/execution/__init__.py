"""The worker, and the loop that runs a teammate step by step."""
