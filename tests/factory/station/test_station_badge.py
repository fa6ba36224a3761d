"""Who may work at a station, and when its clock is wrong."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from birthmark_server.domain import CertificateProfile
from birthmark_server.factory.station.badge import IS_STATION, WORKS_HERE, check_clock, verify_badge
from birthmark_server.factory.station.errors import ClockWrong, NotAtThisStation
from support.pki import Leaf, Pki, make_pki

NOW = datetime.now(UTC)
"""When these tests were collected: what is issued in one may be made later, and so is judged by the clock."""


def verified(
    pki: Pki, leaf: Leaf, *, now: datetime | None = None, allowed: frozenset[CertificateProfile] = WORKS_HERE
) -> str:
    chain = x509.load_pem_x509_certificates(leaf.chain_pem)
    root = x509.load_pem_x509_certificate(pki.root_pem.read_bytes())
    return verify_badge(chain, root=root, allowed=allowed, now=now or datetime.now(UTC), whose="alice.pem").name


@pytest.mark.parametrize("profile", sorted(WORKS_HERE))
def test_factory_and_security_officer_may_work(pki: Pki, profile: CertificateProfile) -> None:
    assert verified(pki, pki.infra(profile, "alice")) == "alice"


@pytest.mark.parametrize(
    "profile",
    [
        CertificateProfile.OPERATOR,
        CertificateProfile.VIEWER,
        CertificateProfile.FLEET_OPERATOR,
        CertificateProfile.STATION,
    ],
)
def test_other_roles_may_not(pki: Pki, profile: CertificateProfile) -> None:
    with pytest.raises(NotAtThisStation, match=f"is alice's, a {profile} certificate; want one for factory or"):
        verified(pki, pki.infra(profile, "alice"))


def test_a_device_is_nobody_here(pki: Pki) -> None:
    with pytest.raises(NotAtThisStation, match="no operator's and no station's"):
        verified(pki, pki.device("dev-1"))


def test_a_station_is_one(pki: Pki) -> None:
    assert verified(pki, pki.infra(CertificateProfile.STATION, "st-1"), allowed=IS_STATION) == "st-1"


def test_another_installation_is_not_ours(pki: Pki, tmp_path: Path) -> None:
    other = make_pki(tmp_path / "other")
    with pytest.raises(NotAtThisStation, match="does not lead to this installation's root"):
        verified(pki, other.infra(CertificateProfile.FACTORY, "alice"))


def test_what_ended_is_refused_with_both_times(pki: Pki) -> None:
    leaf = pki.infra(CertificateProfile.FACTORY, "alice", now=NOW - timedelta(days=9), lifetime=timedelta(days=7))
    with pytest.raises(NotAtThisStation, match=r"alice\.pem ended at .*, or set this machine's clock, which says"):
        verified(pki, leaf)


def test_a_clock_that_is_a_year_behind_is_found_by_the_certificate(pki: Pki) -> None:
    with pytest.raises(ClockWrong, match=r"alice\.pem begins at .*: set the clock"):
        verified(pki, pki.infra(CertificateProfile.FACTORY, "alice"), now=NOW - timedelta(days=365))


@pytest.mark.parametrize("days", [-365, 365])
def test_a_clock_that_is_a_year_off_is_found_by_the_server(days: int) -> None:
    with pytest.raises(ClockWrong, match=r"the server's .*: want them within 5 minutes"):
        check_clock(NOW, server_date=NOW + timedelta(days=days), last_line=None)


def test_a_clock_that_went_back_is_found_by_the_record() -> None:
    with pytest.raises(ClockWrong, match="it went back"):
        check_clock(NOW, server_date=None, last_line=NOW + timedelta(hours=1))


def test_a_clock_that_is_right_passes() -> None:
    check_clock(NOW, server_date=NOW + timedelta(minutes=4), last_line=NOW - timedelta(days=400))
    check_clock(NOW, server_date=None, last_line=None)
