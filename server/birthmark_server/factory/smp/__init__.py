"""Microcontrollers: flashed and driven over SMP (MCUmgr), the protocol of their own bootloader and firmware.

image   is this a firmware image of ours?        line    whole SMP messages over a socket or a serial port
client  what a board is asked, over smpclient    group   our own SMP group, 64: identity, TPM, record, lock
agent   `birthmark-agent` at the station,        tcti    a TPM's commands through a board: `birthmark-smp-tcti`
        with a board's TPM for its own           target  all of it, as a station's target
"""
