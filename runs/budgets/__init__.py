"""What runs may spend: budgets are set, reserved from before each model call, and told of."""
