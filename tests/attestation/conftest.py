"""Real emulated TPMs for the tests of this folder that are marked `parts`; Hypothesis without a stopwatch."""

from hypothesis import settings

from support.tpm_fixtures import make_swtpm, swtpm, swtpm_original, vendor_ca

__all__ = ["make_swtpm", "swtpm", "swtpm_original", "vendor_ca"]

# An example that takes 200 ms on a busy machine is no failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
