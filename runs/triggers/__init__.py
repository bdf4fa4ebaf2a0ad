"""What starts runs by itself: schedules, inbound webhooks, firings."""
