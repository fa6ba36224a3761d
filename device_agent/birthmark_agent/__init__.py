"""The agent: gives a device an identity from its TPM 2.0, keeps it alive, and connects it over mutual TLS.

Bottom up: tpm/ (the TPM), files slots clock backoff (what survives a power cut), tls http est mqtt (the wire),
enrollment renewal homecoming (the flows), run (the long-running agent), cli.
"""
