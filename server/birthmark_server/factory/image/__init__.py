"""A device's image: a bootable GPT disk with the agent, the root that it trusts and the server's address.

    spec.py       what is asked for, checked; what is derived from it (UUIDs, names)
    packages.py   Debian packages, by apt, from this machine's own sources
    wheels.py     the agent's Python packages, by pip, hash by hash; tpm2-pytss compiled for the device
    root.py       the root file system: packages, agent, settings, init
    base.py       all of that which does not depend on the options, kept for the next build
    initramfs.py  what finds the root, checks it and mounts it
    kernel.py     the unified kernel image, signed
    disk.py       file systems, partitions, block map
    sbom.py       the bill of materials
    keys.py       Secure Boot: PK, KEK and db of a product
    build.py      the way through

The same packages, agent and options give the same bytes. What the device trusts is in the image; what it is comes at
the flashing (birthmark_wire.factory.ProvisionRecord).
"""
