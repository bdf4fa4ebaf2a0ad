"""What people are told, and mailed."""
