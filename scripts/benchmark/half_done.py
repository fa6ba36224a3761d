"""A campaign in its midst, without the hours before: a stage's devices are written down as done, as the server would
have left each of them. Their jobs have ended, their new certificates are on record and the old ones superseded.
"""

import hashlib
from typing import Final

from sqlalchemy import insert, select, update

from benchmark import bulk
from birthmark_server.campaigns import DeviceState
from birthmark_server.domain import CertificateProfile, RevocationReason
from birthmark_server.jobs import JobState
from birthmark_server.store.job_tables import CampaignMembers, CampaignStages, Jobs
from birthmark_server.store.tables import Certificates, table_of
from support.server import Installation

_MEMBERS: Final = table_of(CampaignMembers)
_STAGES: Final = table_of(CampaignStages)
_JOBS: Final = table_of(Jobs)
_CERTIFICATES: Final = table_of(Certificates)
_SECOND_US: Final = 1_000_000


def finish_stage(site: Installation, campaign_id: str, stage: int, *, at_us: int) -> int:
    """Write the devices of this stage down as done at that time (since 1970); return how many."""
    of_stage = (_MEMBERS.c.campaign_id == campaign_id, _MEMBERS.c.stage == stage)
    with bulk.database(site) as connection:
        device_ids = list(connection.execute(select(_MEMBERS.c.device_id).where(*of_stage)).scalars())
        within = _CERTIFICATES.c.device_id.in_(select(_MEMBERS.c.device_id).where(*of_stage))
        ldevids = (within, _CERTIFICATES.c.profile == CertificateProfile.LDEVID.value)
        old = [dict(row) for row in connection.execute(select(_CERTIFICATES).where(*ldevids)).mappings()]
        superseded = {"revoked_at_us": at_us, "reason": RevocationReason.SUPERSEDED.value}
        connection.execute(update(_CERTIFICATES).where(*ldevids).values(superseded))
        new = [_renewed(str(row["device_id"])) | {"issued_at_us": at_us - _SECOND_US} for row in old]
        connection.execute(insert(_CERTIFICATES), [row | keys for row, keys in zip(old, new, strict=True)])
        connection.execute(insert(_JOBS), [_job(campaign_id, device_id, at_us) for device_id in device_ids])
        done = {"standing": DeviceState.DONE.value, "attempts": 1}
        job_id = (campaign_id + "-" + _MEMBERS.c.device_id).label("job_id")
        connection.execute(update(_MEMBERS).where(*of_stage).values({**done, "job_id": job_id}))
        counted = {"queued": 0, "done": len(device_ids)}
        here = (_STAGES.c.campaign_id == campaign_id, _STAGES.c.stage == stage)
        connection.execute(update(_STAGES).where(*here).values(counted))
    return len(device_ids)


def _renewed(device_id: str) -> dict[str, object]:
    digest = hashlib.sha256(f"renewed {device_id}".encode()).hexdigest()
    return {
        "sha256": digest,
        "serial_number": "1" + digest[:31],
        "spki_sha256": digest,
        "revoked_at_us": None,
        "reason": None,
    }


def _job(campaign_id: str, device_id: str, at_us: int) -> dict[str, object]:
    return {
        "job_id": f"{campaign_id}-{device_id}",
        "device_id": device_id,
        "campaign_id": campaign_id,
        "sequence": 1,
        "state": JobState.DONE.value,
        "created_by": "bench",
        "created_at_us": at_us - 3600 * _SECOND_US,
        "deadline_us": at_us + 86_400 * _SECOND_US,
        "send_at_us": None,
        "sends": 1,
        "nonce": b"",
        "nonce_expires_at_us": None,
        "request_sha256": hashlib.sha256(b"request").hexdigest(),
        "certificate_sha256": _renewed(device_id)["sha256"],
        "code": "",
        "detail": "",
        "ended_at_us": at_us,
        "revision": 6,
    }
