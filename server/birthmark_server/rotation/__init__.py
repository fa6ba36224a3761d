"""Rotation by command: what the server tells devices over the broker, what they answer, and campaigns over many."""
