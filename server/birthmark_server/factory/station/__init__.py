"""The station: slots in parallel, from a blank device to one that is born, tested, locked and labelled; what it does it
records, and goes on from there after any interruption.

    events      what a line of the record says
    record      the record's file: append-only, hash-chained, synced
    known       what the line knows, derived from the record alone
    plan        pure: what is next for a unit, and whose serial number a device has
    attempt     one try to make one unit in one slot, phase by phase
    runner      all slots; outbox: entries that wait for the server
    board, metrics    what people and programs see of it
"""
