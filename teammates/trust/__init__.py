"""What keeps strangers in their place: limits, budgets, fences, the audit log."""
