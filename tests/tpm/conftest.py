"""Hypothesis without a stopwatch: an example that takes 200 ms on a busy machine is no failure."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
