"""Hypothesis without a stopwatch: these tests run beside others, on a machine that they keep busy."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
