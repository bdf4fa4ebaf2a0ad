"""What is exported, erased and forgotten."""
