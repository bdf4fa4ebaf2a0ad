"""Runs and what starts them over both contracts; `inbound` is what comes in without a key."""
