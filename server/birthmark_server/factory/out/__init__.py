"""What leaves the line, from the stations' records alone: the manifest, the labels, the yield report; and their proof.

folder.py    one station's folder, read and verified: attempts, units, entries
proof.py     does the record hold against the installation's root?
manifest.py  what left the door: a JWS for each device, and a table beside it
verify.py    the manifest, as who receives it checks it
label.py     a QR code and words, as PNG and SVG; sheet.py: many on a page
yields.py    the figures; report.py: the page; drawing.py: its pictures
"""
