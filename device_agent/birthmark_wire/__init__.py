"""The contract between a device and its enrollment server.

What is in here can't be recalled once devices are in the field, so it stands alone: standard library only, no I/O, no
cryptography beyond SHA-256. Every decoder takes bytes and returns a frozen value or raises `DecodeError`; every encoder
is its exact inverse. A change that an old device would not understand gets a new `PROTOCOL` value.
"""

PROTOCOL = "birthmark/1"
