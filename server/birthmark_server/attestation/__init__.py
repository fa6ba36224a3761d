"""Evidence in, proof out: is this the birth key of a device with a genuine TPM 2.0?

verify.py reads from top to bottom; ek.py, ak.py, device_key.py, quote.py and csr.py each judge one thing, path.py and
roots.py say which TPM vendors are believed, errors.py names every reason for a no. No I/O but for the trust store's
folder, no clock, and no libtss2. docs/attestation.md says what each check proves, and what none of them does.
"""
