"""TPM 2.0 structures, read, checked and written in pure Python.

No libtss2 and no I/O. Every parser consumes every byte or raises TpmDecodeError; every encoder is its exact inverse.
Nothing in here decides whom to trust: that is `attestation`.
"""
