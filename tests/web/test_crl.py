"""CRLs: signed, numbered, made anew in time, and cached by whoever wants to."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from cryptography import x509

from birthmark_server.ca.issuer import Issuer
from birthmark_server.domain import Caller, RevocationReason, RevokedEntry
from birthmark_server.store.errors import StoreFailed
from birthmark_server.web.crl import CrlPublisher
from birthmark_server.web.doors import Answer, Call, Router
from birthmark_server.web.errors import NoSuchResource
from support.core import Core
from support.server import Clock, Installation


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    clock = Clock()
    with Installation.create(tmp_path) as site, site.services(clock) as services:
        services.crls.refresh()
        yield Core(site, services, clock)


def fetch(core: Core, name: str, *, if_none_match: str = "", if_modified_since: str = "") -> Answer:
    route, argument = Router(core.services.crls.routes()).find("GET", f"/pki/crl/{name}")
    call = Call("r", "192.0.2.1", argument=argument, if_none_match=if_none_match, if_modified_since=if_modified_since)
    return route.handler(call, Caller("r", "192.0.2.1"))


def parsed(answer: Answer) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(answer.body)


def test_a_revoked_certificate_is_on_its_issuers_next_list(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    birth = core.site.pki.authority.birth
    before = parsed(fetch(core, f"{birth.name}.crl"))
    core.store.revoke_device(device_id, reason=RevocationReason.KEY_COMPROMISE, at=core.clock(), by="alice")
    core.clock.forward(seconds=2)
    core.services.crls.refresh()
    after = parsed(fetch(core, f"{birth.name}.crl"))
    serial = idevid.certificate.serial_number
    assert before.get_revoked_certificate_by_serial_number(serial) is None
    assert after.get_revoked_certificate_by_serial_number(serial) is not None
    numbers = [crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for crl in (before, after)]
    assert numbers[1] > numbers[0]
    assert after.is_signature_valid(birth.certificate.public_key())  # type: ignore[arg-type]


def test_every_issuer_and_the_root_have_a_list(core: Core) -> None:
    authority = core.site.pki.authority
    for issuer in authority.issuers:
        assert parsed(fetch(core, f"{issuer.name}.crl")).issuer == issuer.certificate.subject
    assert fetch(core, "root.crl").body == authority.root.crl.der
    for name in ("nobody.crl", authority.birth.name, "..crl"):
        with pytest.raises(NoSuchResource):
            fetch(core, name)


def test_a_cache_that_has_the_list_gets_nothing_twice(core: Core) -> None:
    name = f"{core.site.pki.authority.fleet.name}.crl"
    headers = dict(fetch(core, name).headers)
    assert headers["Cache-Control"].startswith("public, max-age=")
    for given in (
        {"if_none_match": headers["ETag"]},
        {"if_none_match": f'"other", W/{headers["ETag"]}'},
        {"if_none_match": "*"},
        {"if_modified_since": headers["Last-Modified"]},
        {"if_modified_since": format_datetime(core.clock() + timedelta(hours=1), usegmt=True)},
    ):
        answer = fetch(core, name, **given)
        assert (answer.status, answer.body) == (304, b""), given
    for given in (
        {"if_none_match": '"other"'},
        {"if_none_match": '"other"', "if_modified_since": headers["Last-Modified"]},
        {"if_modified_since": "yesterday"},
        {"if_modified_since": format_datetime(core.clock() - timedelta(hours=1), usegmt=True)},
    ):
        assert fetch(core, name, **given).status == 200, given


def number(core: Core, issuer: Issuer) -> int:
    crl = parsed(fetch(core, f"{issuer.name}.crl"))
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_lists_are_made_anew_well_before_they_end(core: Core) -> None:
    publisher = CrlPublisher(
        store=core.store,
        authority=core.site.pki.authority,
        lifetime=timedelta(hours=1),
        refresh=timedelta(days=1),
        now=core.clock,
    )
    made = []
    for _ in range(8):
        publisher.refresh()
        made.append(core.store.next_crl(core.site.pki.authority.fleet.sha256, at=core.clock()).number)
        core.clock.forward(minutes=7.5)
    assert [made[i + 1] - made[i] for i in range(7)] == [1, 2, 1, 2, 1, 2, 1]  # each look took a number too


def test_a_revocation_makes_one_new_list_of_its_issuer_alone(core: Core) -> None:
    birth, fleet = core.site.pki.authority.birth, core.site.pki.authority.fleet
    devices = [core.listed() for _ in range(3)]
    born = [core.enroll(tpm) for tpm, _ in devices]
    before = number(core, birth), number(core, fleet)
    core.clock.forward(seconds=10)
    core.services.crls.refresh()
    assert (number(core, birth), number(core, fleet)) == before
    with core.site.services(core.clock) as another_process:
        for _, device_id in devices:
            another_process.store.revoke_device(
                device_id, reason=RevocationReason.KEY_COMPROMISE, at=core.clock(), by="alice"
            )
    core.services.crls.refresh()
    core.services.crls.refresh()
    assert (number(core, birth), number(core, fleet)) == (before[0] + 1, before[1])
    listed = parsed(fetch(core, f"{birth.name}.crl"))
    for identity in born:
        assert listed.get_revoked_certificate_by_serial_number(identity.certificate.serial_number) is not None


def test_lists_that_take_long_are_not_made_at_every_revocation(core: Core) -> None:
    birth = core.site.pki.authority.birth
    ticks = itertools.count(step=3)  # every list takes three seconds
    publisher = CrlPublisher(
        store=core.store,
        authority=core.site.pki.authority,
        lifetime=timedelta(days=7),
        refresh=timedelta(days=1),
        now=core.clock,
        stopwatch=lambda: float(next(ticks)),
    )
    with_long_lists = replace(core, services=replace(core.services, crls=publisher))

    def revoke_one() -> int:
        tpm, device_id = core.listed()
        core.enroll(tpm)
        core.store.revoke_device(device_id, reason=RevocationReason.KEY_COMPROMISE, at=core.clock(), by="alice")
        publisher.refresh()
        return number(with_long_lists, birth)

    first = revoke_one()
    core.clock.forward(seconds=29)
    assert revoke_one() == first
    core.clock.forward(seconds=1)
    assert revoke_one() == first + 1


def test_a_clock_that_was_set_back_does_not_stop_the_lists(core: Core) -> None:
    fleet = core.site.pki.authority.fleet
    before = number(core, fleet)
    core.clock.forward(hours=-3)
    core.services.crls.refresh()
    assert number(core, fleet) == before + 1


def test_a_list_that_can_not_be_made_leaves_the_old_one(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{core.site.pki.authority.fleet.name}.crl"
    old = fetch(core, name).body

    def fail(*_: object, **__: object) -> Iterator[RevokedEntry]:
        raise StoreFailed("no database")

    core.clock.forward(days=1)
    with monkeypatch.context() as broken:
        broken.setattr(core.store, "revoked_entries", fail)
        core.services.crls.refresh()
    assert fetch(core, name).body == old
    core.services.crls.refresh()
    assert fetch(core, name).body == old  # the log gets one line a minute, not one a second
    core.clock.forward(minutes=1)
    core.services.crls.refresh()
    assert fetch(core, name).body != old


def test_an_entry_leaves_the_lists_a_lifetime_after_its_certificate_expired(core: Core) -> None:
    fleet = core.site.pki.authority.fleet
    leaf = core.site.pki.device("device-1", lifetime=timedelta(days=1))
    core.store.add_infrastructure_certificate(replace(leaf.record, device_id=""), by="alice")
    core.store.revoke_certificate(leaf.record.sha256, reason=RevocationReason.SUPERSEDED, at=core.clock(), by="alice")
    listed = []
    core.clock.forward(seconds=10)
    for _ in range(10):
        core.services.crls.refresh()
        crl = parsed(fetch(core, f"{fleet.name}.crl"))
        listed.append(crl.get_revoked_certificate_by_serial_number(leaf.certificate.serial_number) is not None)
        core.clock.forward(days=1)
    assert listed == [True] * 8 + [False] * 2  # one day of validity, seven of the list's own


def test_an_entry_is_on_one_list_after_its_certificate_expired_however_late(core: Core) -> None:
    fleet = core.site.pki.authority.fleet
    leaf = core.site.pki.device("device-1", lifetime=timedelta(days=1))
    core.store.add_infrastructure_certificate(replace(leaf.record, device_id=""), by="alice")
    core.store.revoke_certificate(leaf.record.sha256, reason=RevocationReason.SUPERSEDED, at=core.clock(), by="alice")
    core.services.crls.refresh()
    listed = []
    for _ in range(2):
        core.clock.forward(days=365)
        core.services.crls.refresh()
        crl = parsed(fetch(core, f"{fleet.name}.crl"))
        listed.append(crl.get_revoked_certificate_by_serial_number(leaf.certificate.serial_number) is not None)
    assert listed == [True, False]


def test_a_list_that_grows_stale_is_shouted_about_long_before_it_ends(
    core: Core, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = core.services.crls
    assert publisher.stale() == ()
    assert {(one.age_s, one.left_s) for one in publisher.ages()} == {(0, 7 * 86_400)}

    def fail(*_: object, **__: object) -> Iterator[RevokedEntry]:
        raise StoreFailed("no database")

    monkeypatch.setattr(core.store, "revoked_entries", fail)
    core.clock.forward(days=3.4)
    publisher.refresh()
    assert publisher.stale() == ()
    assert {(one.age_s, one.left_s) for one in publisher.ages()} == {(3.4 * 86_400, 3.6 * 86_400)}
    core.clock.forward(days=0.2)
    for _ in range(3):
        publisher.refresh()
    assert len(publisher.stale()) == len(core.site.pki.authority.issuers)
    shouts = [record for record in caplog.records if record.message == "crl grows stale"]
    assert {record.levelname for record in shouts} == {"ERROR"}
    assert len(shouts) == len(core.site.pki.authority.issuers)  # once a minute, not once a second
    monkeypatch.undo()
    core.clock.forward(minutes=1)
    publisher.refresh()
    assert publisher.stale() == ()
