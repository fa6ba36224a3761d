"""The demo: a fleet is born, attested, certified, connected and rotated on this machine, with real parts.

`scripts/demo` runs `python -m demo_story`. Every line that it shows rests on evidence of the part that did it: the
server's database, the agent's own status, the broker's messages. Nothing is shown because it should have happened.
"""
