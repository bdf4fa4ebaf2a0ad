"""What other systems are told: endpoints, outbox, sender."""
