"""Pending human decisions: when to ask, what is shown, who decided."""
