"""What operators do, under `/v1/`, by HTTPS with their certificates.

views.py says what goes in and comes out, desk.py what can be done, store_desk.py does it on the store, and routes.py
opens a door for each of it. The command line speaks to the same desk, here or through those doors.
"""
