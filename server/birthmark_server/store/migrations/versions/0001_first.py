"""The first schema. What the columns mean: tables.py and domain.py."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_REVOKED = sa.text("revoked_at_us IS NOT NULL")
_INFRASTRUCTURE = sa.text("device_id IS NULL")


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("enrollment_id", sa.String(), nullable=False),
        sa.Column("request_sha256", sa.String(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("enrollment_id", name="pk_answers"),
    )
    op.create_index("ix_answers_expires_at_us", "answers", ["expires_at_us"])
    op.create_table(
        "crl_numbers",
        sa.Column("issuer_sha256", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("issuer_sha256", name="pk_crl_numbers"),
    )
    op.create_table(
        "denials",
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("ek_sha256", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("denied_by", sa.String(), nullable=False),
        sa.Column("denied_at_us", sa.BigInteger(), nullable=False),
        sa.Column("claimed_ek_sha256", sa.String(), nullable=False),
        sa.Column("denial_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("denial_id", name="pk_denials"),
    )
    op.create_table(
        "devices",
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("batch", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("assurance", sa.String(), nullable=False),
        sa.Column("ek_sha256", sa.String(), nullable=False),
        sa.Column("other_ek_sha256", sa.String(), nullable=False),
        sa.Column("ak_public", sa.LargeBinary(), nullable=False),
        sa.Column("birth_spki_sha256", sa.String(), nullable=False),
        sa.Column("enrolled_at_us", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at_us", sa.BigInteger(), nullable=True),
        sa.Column("rekeyed_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("device_id", name="pk_devices"),
        sa.UniqueConstraint("serial", name="uq_devices_serial"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_devices_batch_device_id", "devices", ["batch", "device_id"])
    op.create_index("ix_devices_state_device_id", "devices", ["state", "device_id"])
    op.create_table(
        "est_nonces",
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name="pk_est_nonces"),
    )
    op.create_index("ix_est_nonces_device_id_expires_at_us", "est_nonces", ["device_id", "expires_at_us"])
    op.create_index("ix_est_nonces_expires_at_us", "est_nonces", ["expires_at_us"])
    op.create_table(
        "models",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("ek_template", sa.String(), nullable=False),
        sa.Column("require_ek_certificate", sa.Boolean(), nullable=False),
        sa.Column("quote_pcrs", sa.String(), nullable=False),
        sa.Column("manufacturers", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_models"),
    )
    op.create_table(
        "pending",
        sa.Column("enrollment_id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("station", sa.String(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("ek_sha256", sa.String(), nullable=False),
        sa.Column("other_ek_sha256", sa.String(), nullable=False),
        sa.Column("ak_name", sa.LargeBinary(), nullable=False),
        sa.Column("key_name", sa.LargeBinary(), nullable=False),
        sa.Column("assurance", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("batch", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("enrollment_id", name="pk_pending"),
    )
    op.create_index("ix_pending_expires_at_us", "pending", ["expires_at_us"])
    op.create_index("ix_pending_key_name", "pending", ["key_name"])
    op.create_table(
        "refusals",
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("door", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("ek_sha256", sa.String(), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.Column("id", _ROW_NUMBER, autoincrement=True, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_refusals"),
    )
    op.create_index("ix_refusals_at_us", "refusals", ["at_us"])
    op.create_index("ix_refusals_code_id", "refusals", ["code", "id"])
    op.create_index("ix_refusals_device_id_id", "refusals", ["device_id", "id"])
    op.create_table(
        "batches",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("quota", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("opened_by", sa.String(), nullable=False),
        sa.Column("opened_at_us", sa.BigInteger(), nullable=False),
        sa.Column("closes_at_us", sa.BigInteger(), nullable=False),
        sa.Column("closed_at_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_batches_model"),
        sa.PrimaryKeyConstraint("name", name="pk_batches"),
    )
    op.create_table(
        "board_swaps",
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("new_ek_sha256", sa.String(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("requested_at_us", sa.BigInteger(), nullable=False),
        sa.Column("approved_by", sa.String(), nullable=False),
        sa.Column("approved_at_us", sa.BigInteger(), nullable=True),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_board_swaps_device_id"),
        sa.PrimaryKeyConstraint("device_id", name="pk_board_swaps"),
        sa.UniqueConstraint("new_ek_sha256", name="uq_board_swaps_new_ek_sha256"),
    )
    op.create_table(
        "certificates",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("issuer_sha256", sa.String(), nullable=False),
        sa.Column("serial_number", sa.String(), nullable=False),
        sa.Column("profile", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=True),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("not_before_us", sa.BigInteger(), nullable=False),
        sa.Column("not_after_us", sa.BigInteger(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("issued_at_us", sa.BigInteger(), nullable=False),
        sa.Column("spki_sha256", sa.String(), nullable=False),
        sa.Column("revoked_at_us", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_certificates_device_id"),
        sa.PrimaryKeyConstraint("sha256", name="pk_certificates"),
        sa.UniqueConstraint("issuer_sha256", "serial_number", name="uq_certificates_issuer_sha256_serial_number"),
    )
    op.create_index("ix_certificates_device_id_issued_at_us", "certificates", ["device_id", "issued_at_us"])
    op.create_index("ix_certificates_device_id_spki_sha256", "certificates", ["device_id", "spki_sha256"])
    op.create_index(
        "ix_certificates_infrastructure",
        "certificates",
        ["profile", "sha256"],
        sqlite_where=_INFRASTRUCTURE,
        postgresql_where=_INFRASTRUCTURE,
    )
    op.create_index(
        "ix_certificates_revoked",
        "certificates",
        ["issuer_sha256", "sha256"],
        sqlite_where=_REVOKED,
        postgresql_where=_REVOKED,
    )
    op.create_table(
        "denied_keys",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("denial_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["denial_id"], ["denials.denial_id"], name="fk_denied_keys_denial_id"),
        sa.PrimaryKeyConstraint("key", "denial_id", name="pk_denied_keys"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "device_revocations",
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("lifted_at_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_device_revocations_device_id"),
        sa.PrimaryKeyConstraint("device_id", "epoch", name="pk_device_revocations"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "endorsement_claims",
        sa.Column("ek_sha256", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_endorsement_claims_device_id"),
        sa.PrimaryKeyConstraint("ek_sha256", "device_id", name="pk_endorsement_claims"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_endorsement_claims_device_id", "endorsement_claims", ["device_id"])
    op.create_table(
        "endorsement_keys",
        sa.Column("ek_sha256", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_endorsement_keys_device_id"),
        sa.PrimaryKeyConstraint("ek_sha256", name="pk_endorsement_keys"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "evidence",
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("verifier_version", sa.String(), nullable=False),
        sa.Column("roots_version", sa.String(), nullable=False),
        sa.Column("parts", sa.LargeBinary(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("certificate_sha256", sa.String(), nullable=False),
        sa.Column("id", _ROW_NUMBER, autoincrement=True, nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_evidence_device_id"),
        sa.PrimaryKeyConstraint("id", name="pk_evidence"),
    )
    op.create_index("ix_evidence_device_id", "evidence", ["device_id"])
    op.create_table(
        "manifest",
        sa.Column("ek_sha256", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("imported_by", sa.String(), nullable=False),
        sa.Column("imported_at_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_manifest_model"),
        sa.PrimaryKeyConstraint("ek_sha256", name="pk_manifest"),
        sa.UniqueConstraint("device_id", name="uq_manifest_device_id"),
        sa.UniqueConstraint("serial", name="uq_manifest_serial"),
    )


def downgrade() -> None:
    for table in (
        "manifest",
        "evidence",
        "endorsement_keys",
        "endorsement_claims",
        "device_revocations",
        "denied_keys",
        "certificates",
        "board_swaps",
        "batches",
        "refusals",
        "pending",
        "models",
        "est_nonces",
        "devices",
        "denials",
        "crl_numbers",
        "answers",
    ):
        op.drop_table(table)
