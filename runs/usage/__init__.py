"""What runs consumed: booked once, summed by day, limited, reported."""
