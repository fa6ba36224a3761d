"""The device's TPM: device.Tpm is the way in; keys, certificates in NV, and what they prove.

Only esapi.py knows tpm2-pytss (and so libtss2 and cffi: 16 MB of memory); import `tpm.device` where a TPM is really
used, and not before. This package's own __init__ imports nothing.
"""
