"""What other systems are told: endpoints, outbox, sender. Calls that come in are in `triggers`."""
