"""Campaigns select devices as lists do; and an index for what hangs on the certificate in use."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_STANDING = sa.text("revoked_at_us IS NULL")
_OLD: dict[str, object] = {
    "device_ids": [],
    "model": "",
    "batch": "",
    "issued_by": "",
    "expiring_before": None,
    "never_rotated": False,
}
_CAMPAIGNS = sa.table("campaigns", sa.column("campaign_id", sa.String()), sa.column("selector", sa.String()))


def upgrade() -> None:
    op.create_index(
        "ix_certificates_standing",
        "certificates",
        ["device_id", "profile", "not_after_us", "issuer_sha256", "revoked_at_us"],
        sqlite_where=_STANDING,
        postgresql_where=_STANDING,
    )
    for campaign_id, selector in op.get_bind().execute(sa.select(_CAMPAIGNS)).all():
        old = json.loads(selector)
        new = {**old, "issued_by": [old["issued_by"]] if old["issued_by"] else []}
        _write(campaign_id, [new] if any(new.values()) else [])


def downgrade() -> None:
    """What a selector of 0005 can't say becomes one that matches nobody: nobody joins such a campaign late."""
    for campaign_id, selector in op.get_bind().execute(sa.select(_CAMPAIGNS)).all():
        filters = [{name: value for name, value in one.items() if value} for one in json.loads(selector)]
        first = filters[0] if filters else {}
        issuers = first.pop("issued_by", [])
        if len(filters) > 1 or len(issuers) > 1 or not first.keys() <= _OLD.keys():
            first = {"device_ids": ["-"]}
        _write(campaign_id, {**_OLD, **first, "issued_by": issuers[0] if issuers else ""})
    op.drop_index("ix_certificates_standing", "certificates")


def _write(campaign_id: str, selector: object) -> None:
    one = _CAMPAIGNS.c.campaign_id == campaign_id
    op.execute(sa.update(_CAMPAIGNS).where(one).values(selector=json.dumps(selector)))
