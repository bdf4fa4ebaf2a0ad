"""What a run may do next, and who holds it."""
