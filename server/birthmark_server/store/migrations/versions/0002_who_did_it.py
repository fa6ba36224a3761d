"""Who did it, beside what was done; and board swaps that have ended stay on record.

Rows from before have "" for who did it: that is not known.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NAMES = (
    ("models", "added_by"),
    ("batches", "closed_by"),
    ("certificates", "issued_by"),
    ("certificates", "revoked_by"),
    ("device_revocations", "revoked_by"),
    ("device_revocations", "lifted_by"),
)
_OPEN = sa.text("ended_at_us IS NULL")


def upgrade() -> None:
    for table, column in _NAMES:
        op.add_column(table, sa.Column(column, sa.String(), nullable=False, server_default=""))
    swaps = _swaps()
    op.drop_table("board_swaps")  # its key is another one; there are never many
    op.create_table(
        "board_swaps",
        *_columns(),
        sa.Column("ended_at_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_board_swaps_device_id"),
        sa.PrimaryKeyConstraint("device_id", "new_ek_sha256", "requested_at_us", name="pk_board_swaps"),
    )
    for column in ("device_id", "new_ek_sha256"):
        op.create_index(
            f"ux_board_swaps_{column}", "board_swaps", [column], unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN
        )
    _put_back(swaps)


def downgrade() -> None:
    swaps = _swaps(sa.text("ended_at_us IS NULL"))
    op.drop_table("board_swaps")
    op.create_table(
        "board_swaps",
        *_columns(),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_board_swaps_device_id"),
        sa.PrimaryKeyConstraint("device_id", name="pk_board_swaps"),
        sa.UniqueConstraint("new_ek_sha256", name="uq_board_swaps_new_ek_sha256"),
    )
    _put_back(swaps)
    for table, column in _NAMES:
        op.drop_column(table, column)


def _columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("new_ek_sha256", sa.String(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("requested_at_us", sa.BigInteger(), nullable=False),
        sa.Column("approved_by", sa.String(), nullable=False),
        sa.Column("approved_at_us", sa.BigInteger(), nullable=True),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=True),
    ]


def _swaps(*where: sa.TextClause) -> list[dict[str, Any]]:
    rows = op.get_bind().execute(sa.select(*_TABLE.columns).where(*where))
    return [dict(row) for row in rows.mappings()]


def _put_back(swaps: list[dict[str, Any]]) -> None:
    op.bulk_insert(_TABLE, swaps)


_TABLE = sa.table("board_swaps", *(sa.column(column.name) for column in _columns()))
