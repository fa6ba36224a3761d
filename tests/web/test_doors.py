"""Who may use which route, judged at each request."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from birthmark_server.domain import (
    Assurance,
    Caller,
    CertificateProfile,
    CertificateRecord,
    Device,
    DeviceState,
    RevocationReason,
)
from birthmark_server.errors import Misconfigured
from birthmark_server.roles import OPERATOR_PROFILES, ROLE_OF, Role, RoleNotAllowed
from birthmark_server.web import errors
from birthmark_server.web.doors import (
    ATTESTED,
    BORN,
    ENROLLMENT,
    OPERATIONAL,
    OPERATORS,
    PUBLIC,
    Answer,
    Call,
    Door,
    Route,
    Router,
    for_roles,
    identify,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RECORD = CertificateRecord(
    sha256="aa",
    issuer_sha256="fleet",
    serial_number="1",
    profile=CertificateProfile.LDEVID,
    device_id="dev-1",
    subject="CN=dev-1,O=Example",
    not_before=NOW - timedelta(days=1),
    not_after=NOW + timedelta(days=1),
    der=b"",
    issued_at=NOW,
    spki_sha256="",
)
DEVICE = Device(
    device_id="dev-1",
    serial="SN1",
    model="m",
    batch="",
    state=DeviceState.ACTIVE,
    epoch=1,
    assurance=Assurance.VENDOR_CERTIFICATE,
    ek_sha256="ek",
    other_ek_sha256=(),
    ak_public=b"",
    birth_spki_sha256="",
    enrolled_at=NOW,
)


class OneCertificate:
    """A store that knows one certificate, whatever its bytes."""

    def __init__(self, found: tuple[CertificateRecord, Device | None] | None) -> None:
        self.found = found

    def certificate_by_sha256(self, sha256: str) -> tuple[CertificateRecord, Device | None] | None:
        return self.found


def judge(
    door: Door,
    record: CertificateRecord | None = RECORD,
    device: Device | None = DEVICE,
    *,
    certificate: bytes | None = b"a certificate",
) -> Caller:
    store = OneCertificate(None if record is None else (record, device))
    call = Call("r", "192.0.2.1", certificate)
    return identify(store, door, call, issuers=frozenset({"fleet", "infra"}), now=NOW)


def test_a_device_in_good_standing_is_let_in() -> None:
    caller = judge(OPERATIONAL)
    assert (caller.device, caller.certificate, caller.source, caller.station) == (DEVICE, RECORD, "192.0.2.1", "")


def test_a_station_is_its_own_source() -> None:
    station = replace(RECORD, profile=CertificateProfile.STATION, device_id="", subject="CN=line-7,O=Example")
    caller = judge(ENROLLMENT, station, None)
    assert (caller.source, caller.station) == ("line-7", "line-7")


def test_without_a_certificate_only_anonymous_doors_open() -> None:
    assert judge(ENROLLMENT, certificate=None).device is None
    for door in (OPERATIONAL, BORN, ATTESTED, OPERATORS):
        with pytest.raises(errors.CertificateRequired):
            judge(door, certificate=None)


def test_a_public_door_does_not_even_look_at_the_certificate() -> None:
    assert judge(PUBLIC, None).certificate is None


@pytest.mark.parametrize(
    ("record", "device", "error"),
    [
        (None, None, errors.CertificateUnknown),
        (replace(RECORD, issuer_sha256="another"), DEVICE, errors.CertificateUnknown),
        (replace(RECORD, revoked_at=NOW, reason=RevocationReason.SUPERSEDED), DEVICE, errors.CertificateRevoked),
        (replace(RECORD, not_after=NOW - timedelta(seconds=1)), DEVICE, errors.CertificateOutOfDate),
        (replace(RECORD, not_before=NOW + timedelta(seconds=1)), DEVICE, errors.CertificateOutOfDate),
        (replace(RECORD, profile=CertificateProfile.BROKER), DEVICE, errors.CertificateMisused),
        (RECORD, None, errors.CertificateUnknown),
        *((RECORD, replace(DEVICE, state=s), errors.OwnerNotActive) for s in DeviceState if s != DeviceState.ACTIVE),
    ],
)
def test_everything_else_is_refused(
    record: CertificateRecord | None, device: Device | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        judge(OPERATIONAL, record, device)


@pytest.mark.parametrize("profile", list(CertificateProfile))
def test_each_role_opens_only_its_own_doors(profile: CertificateProfile) -> None:
    opens = {
        CertificateProfile.IDEVID: (BORN, ATTESTED),
        CertificateProfile.LDEVID: (OPERATIONAL, ATTESTED),
        CertificateProfile.LDEVID_SOFTWARE: (OPERATIONAL,),
        CertificateProfile.STATION: (ENROLLMENT,),
        **dict.fromkeys(OPERATOR_PROFILES, (OPERATORS,)),
    }.get(profile, ())
    for door in (BORN, OPERATIONAL, ATTESTED, ENROLLMENT, OPERATORS):
        if door in opens:
            judge(door, replace(RECORD, profile=profile))
        else:
            with pytest.raises(errors.CertificateMisused):
                judge(door, replace(RECORD, profile=profile))


def answer(_call: Call, _caller: Caller) -> Answer:
    return Answer(200, b"", "text/plain")


def test_a_route_that_lets_nobody_in_is_refused_at_start() -> None:
    with pytest.raises(Misconfigured, match="does not say who may use it"):
        Router([Route("GET", "/x", Door(), answer)])


def test_a_route_declared_twice_is_refused_at_start() -> None:
    with pytest.raises(Misconfigured, match="declared twice"):
        Router([Route("GET", "/x/{id}/y", PUBLIC, answer), Route("GET", "/x/{id}/y", PUBLIC, answer)])


def test_a_route_that_looks_up_certificates_may_not_run_on_the_event_loop() -> None:
    with pytest.raises(Misconfigured, match="not on the event loop"):
        Router([Route("GET", "/x", OPERATORS, answer, cheap=True)])


def test_the_router_finds_exact_paths_and_one_segment() -> None:
    begin, finish = Route("POST", "/v1/e", PUBLIC, answer), Route("POST", "/v1/e/{id}/activation", PUBLIC, answer)
    router = Router([begin, finish])
    assert router.find("POST", "/v1/e") == (begin, "")
    assert router.find("POST", "/v1/e/abc/activation") == (finish, "abc")
    for path in ("/v1/e/", "/v1/e//activation", "/v1/e/a/b/activation", "/v1/e/activation", "/v1", "/", ""):
        with pytest.raises(errors.NoSuchResource):
            router.find("POST", path)
    with pytest.raises(errors.MethodNotAllowed, match="want POST"):
        router.find("GET", "/v1/e")


def test_head_is_answered_as_get() -> None:
    route = Route("GET", "/x", PUBLIC, answer)
    assert Router([route]).find("HEAD", "/x") == (route, "")


@pytest.mark.parametrize("profile", OPERATOR_PROFILES)
def test_an_operators_role_opens_the_doors_of_that_role_and_none_counts_as_a_viewer(
    profile: CertificateProfile,
) -> None:
    for role in Role:
        if ROLE_OF[profile] is role:
            judge(for_roles([role]), replace(RECORD, profile=profile))
        else:
            with pytest.raises(RoleNotAllowed, match=f"for the role {role}"):
                judge(for_roles([role]), replace(RECORD, profile=profile))
    assert ROLE_OF[CertificateProfile.OPERATOR] is Role.VIEWER


def test_a_route_for_no_role_is_refused_at_start() -> None:
    with pytest.raises(Misconfigured, match="does not say who may use it"):
        Router([Route("GET", "/x", for_roles([]), answer)])


def test_the_rest_of_a_path_is_given_as_it_was_sent() -> None:
    route = Route("GET", "/a/{rest}", PUBLIC, answer)
    router = Router([route, Route("GET", "/a/b", PUBLIC, answer)])
    assert router.find("GET", "/a/x//y%2F=") == (route, "x//y%2F=")
    assert router.find("GET", "/a/b")[0] is not route
    for path in ("/a/", "/a", "/ab"):
        with pytest.raises(errors.NoSuchResource):
            router.find("GET", path)
    with pytest.raises(Misconfigured, match="declared twice"):
        Router([route, route])
