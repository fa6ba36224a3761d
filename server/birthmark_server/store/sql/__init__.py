"""The store's contract in SQL, for SQLite and PostgreSQL alike: one file per concern, functions over a Transaction.

setup (models, manifest, batches), devices and certificates (the rows that all others share), admission, births,
issuance, revocation, denials (with board swaps), events (evidence, refusals, purge), replay; store.py is the face.
"""
