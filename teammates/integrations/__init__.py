"""Tools from outside, and what they may."""
