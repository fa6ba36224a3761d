"""What a station relays: batches, claims, and who may finish what."""

from datetime import timedelta

import pytest

from birthmark_server.admission import ClaimContradicts, ClaimWithoutStation, NotExpected
from birthmark_server.domain import (
    Batch,
    DeviceModel,
    RevocationReason,
)
from birthmark_server.enrollment import OtherStation
from birthmark_server.store.errors import (
    BatchClosed,
    QuotaExhausted,
    StationRevoked,
    UnknownBatch,
    UnknownDevice,
)
from birthmark_wire.enrollment import Claim
from support.core import STRANGER, Core, fresh_serial, station
from support.server import MODEL


def open_batch(core: Core, *, quota: int = 10) -> Batch:
    at = core.clock()
    batch = Batch(fresh_serial(), MODEL.name, quota, 0, "alice", at, at + timedelta(hours=8))
    core.store.open_batch(batch)
    return batch


def test_a_batch_admits_what_an_authenticated_station_relays(core: Core) -> None:
    batch, serial = open_batch(core), fresh_serial()
    tpm = core.site.tpm()
    claim = Claim(batch.name, serial, MODEL.name)
    core.enroll(tpm, station(), claim=claim)
    device = core.store.get_device(serial.lower())
    assert (device.serial, device.batch, device.ek_sha256) == (serial, batch.name, tpm.ek_sha256)
    assert core.store.get_batch(batch.name).used == 1
    core.enroll(tpm)  # from now on it is known, and needs no station


def test_a_claim_without_a_station_counts_for_nothing(core: Core) -> None:
    batch = open_batch(core)
    with pytest.raises(ClaimWithoutStation):
        core.begin(core.site.tpm(), claim=Claim(batch.name, "SN-X", MODEL.name))


def test_a_station_without_a_claim_vouches_for_nobody(core: Core) -> None:
    open_batch(core)
    with pytest.raises(NotExpected):
        core.begin(core.site.tpm(), station())


def test_what_a_station_began_only_that_station_finishes(core: Core) -> None:
    batch = open_batch(core)
    tpm = core.site.tpm()
    challenge = core.begin(tpm, station("line-1"), claim=Claim(batch.name, fresh_serial(), MODEL.name))
    for other in (STRANGER, station("line-2")):
        with pytest.raises(OtherStation):
            core.finish(challenge, core.answer(tpm, challenge), other)
    core.finish(challenge, core.answer(tpm, challenge), station("line-1"))


def test_only_that_station_gets_the_stored_answer(core: Core) -> None:
    batch = open_batch(core)
    tpm = core.site.tpm()
    challenge = core.begin(tpm, station("line-1"), claim=Claim(batch.name, fresh_serial(), MODEL.name))
    body = core.answer(tpm, challenge)
    first = core.finish(challenge, body, station("line-1"))
    for other in (STRANGER, station("line-2")):
        with pytest.raises(OtherStation):
            core.finish(challenge, body, other)
    assert core.finish(challenge, body, station("line-1")) == first


def test_a_station_that_is_revoked_while_it_relays_bears_nobody(core: Core) -> None:
    """The door looked at its certificate when the request came in; the birth looks again."""
    batch = open_batch(core)
    tpm, serial = core.site.tpm(), fresh_serial()
    relay = core.certified_station("line-9")
    challenge = core.begin(tpm, relay, claim=Claim(batch.name, serial, MODEL.name))
    assert relay.certificate is not None
    core.store.revoke_certificate(
        relay.certificate.sha256, reason=RevocationReason.KEY_COMPROMISE, at=core.clock(), by="alice"
    )
    with pytest.raises(StationRevoked):
        core.finish(challenge, core.answer(tpm, challenge), relay)
    with pytest.raises(UnknownDevice):
        core.store.get_device(serial.lower())


def test_a_batch_has_an_end_and_a_quota(core: Core) -> None:
    batch = open_batch(core, quota=1)
    core.enroll(core.site.tpm(), station(), claim=Claim(batch.name, fresh_serial(), MODEL.name))
    with pytest.raises(QuotaExhausted):
        core.begin(core.site.tpm(), station(), claim=Claim(batch.name, fresh_serial(), MODEL.name))
    late = open_batch(core)
    challenge = core.begin(tpm := core.site.tpm(), station(), claim=Claim(late.name, fresh_serial(), MODEL.name))
    core.store.close_batch(late.name, at=core.clock(), by="alice")
    with pytest.raises(BatchClosed):
        core.finish(challenge, core.answer(tpm, challenge), station())
    with pytest.raises(BatchClosed):
        core.begin(core.site.tpm(), station(), claim=Claim(late.name, fresh_serial(), MODEL.name))
    with pytest.raises(UnknownBatch):
        core.begin(core.site.tpm(), station(), claim=Claim("none", fresh_serial(), MODEL.name))


def test_a_quota_holds_for_challenges_that_were_open_together(core: Core) -> None:
    batch = open_batch(core, quota=1)
    tpms = [core.site.tpm(), core.site.tpm()]
    challenges = [core.begin(t, station(), claim=Claim(batch.name, fresh_serial(), MODEL.name)) for t in tpms]
    core.finish(challenges[0], core.answer(tpms[0], challenges[0]), station())
    with pytest.raises(QuotaExhausted):
        core.finish(challenges[1], core.answer(tpms[1], challenges[1]), station())


def test_a_claim_that_contradicts_manifest_record_or_batch_is_refused(core: Core) -> None:
    batch = open_batch(core)
    listed, _ = core.listed()
    with pytest.raises(ClaimContradicts):
        core.begin(listed, station(), claim=Claim(batch.name, "SN-OTHER", MODEL.name))
    core.store.add_model(DeviceModel(name="model-b", ek_template="p384"), by="alice")
    with pytest.raises(ClaimContradicts):
        core.begin(core.site.tpm(), station(), claim=Claim(batch.name, fresh_serial(), "model-b"))
