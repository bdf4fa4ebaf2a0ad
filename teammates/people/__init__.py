"""People, their sign-in, their keys."""
