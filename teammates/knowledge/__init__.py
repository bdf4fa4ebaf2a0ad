"""What teammates know."""
