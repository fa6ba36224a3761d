"""A new station's settings file, with what a person still has to fill in as comments (factory/station/settings.py)."""

import json


def station_file(server: str, *, certificate: str, key: str, root: str) -> str:
    """Return station.toml."""
    return f"""\
# This station: where the server is, who we are, whom we believe. Relative paths start here.
server = {json.dumps(server)}
certificate = {json.dumps(certificate)}
key = {json.dumps(key)}
root = {json.dumps(root)}

# What is flashed: a folder of `birthmark image build`, or signed firmware; --image says otherwise.
# image = "image"
# image_key = "image-key.pem"        # smp: the public key that firmware is signed with

# One table for each place for a device. {{serial}} and {{slot}} are filled in.
# [[slot]]
# target = "disk:/dev/disk/by-path/platform-1-usb-0:1:1.0-scsi-0:0:0:0"
# console = "/dev/ttyUSB0"           # or unix:PATH, tcp:HOST:PORT
# power_on = "uhubctl -l 1-1 -p 1 -a on"
# power_off = "uhubctl -l 1-1 -p 1 -a off"
# limits = {{ flash_s = 300, attest_s = 120 }}

# [[slot]]
# target = "smp:/dev/ttyACM0"
"""
