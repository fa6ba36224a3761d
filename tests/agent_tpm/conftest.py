"""Fixtures of the agent's lower half."""

from support.tpm_fixtures import make_swtpm, swtpm, swtpm_original, vendor_ca

__all__ = ["make_swtpm", "swtpm", "swtpm_original", "vendor_ca"]
