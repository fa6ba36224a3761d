"""Fixtures of real emulated TPMs for the tests of this folder that are marked `parts`."""

from support.tpm_fixtures import make_swtpm, swtpm, swtpm_original, vendor_ca

__all__ = ["make_swtpm", "swtpm", "swtpm_original", "vendor_ca"]
