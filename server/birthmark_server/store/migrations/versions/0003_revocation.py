"""Quarantine and retirement beside revocation, in the operator's words; when each CRL was made; an index that CRLs are
made from without reading anything else.

Rows from before are revocations, without words. When a list from before was made is not known.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_REVOKED = sa.text("revoked_at_us IS NOT NULL")
_INDEX = "ix_certificates_revoked"


def upgrade() -> None:
    op.add_column("device_revocations", sa.Column("state", sa.String(), nullable=False, server_default="revoked"))
    op.add_column("device_revocations", sa.Column("note", sa.String(), nullable=False, server_default=""))
    op.add_column("crl_numbers", sa.Column("made_at_us", sa.BigInteger(), nullable=True))
    _index("issuer_sha256", "serial_number", "not_after_us", "revoked_at_us", "reason")


def downgrade() -> None:
    """A device in quarantine is a revoked one to the program of before, and can be readmitted there."""
    op.execute("UPDATE devices SET state = 'revoked' WHERE state = 'quarantined'")
    _index("issuer_sha256", "sha256")
    op.drop_column("crl_numbers", "made_at_us")
    op.drop_column("device_revocations", "note")
    op.drop_column("device_revocations", "state")


def _index(*columns: str) -> None:
    op.drop_index(_INDEX, "certificates")
    op.create_index(_INDEX, "certificates", list(columns), sqlite_where=_REVOKED, postgresql_where=_REVOKED)
