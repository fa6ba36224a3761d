"""More than one Birth CA in the folder: next year's, and one that the root took back."""

from pathlib import Path

import pytest
from cryptography import x509

from birthmark_server.ca.errors import AuthorityBroken
from birthmark_server.ca.profile import CaKind
from birthmark_server.enrollment import BirthRevoked
from support.core import Core
from support.server import Clock, Identity, Installation


def issuer_of(identity: Identity) -> x509.Name:
    """Who issued the leaf: whose certificate comes after it in the chain."""
    leaf, issuer = (x509.load_der_x509_certificate(der) for der in identity.chain)
    leaf.verify_directly_issued_by(issuer)
    return issuer.subject


def test_next_years_birth_ca_leaves_older_devices_their_idevid_with_its_chain(tmp_path: Path) -> None:
    clock = Clock()
    with Installation.create(tmp_path) as site:
        with site.services(clock) as services:
            core = Core(site, services, clock)
            tpm, device_id = core.listed()
            first = core.enroll(tpm)
        site.pki.add(CaKind.BIRTH, label="next")
        with site.services(clock) as services:  # it is nothing until somebody says so
            assert services.authority.birth.name == site.pki.authority.birth.name
        site.put_to_use("birth-next")
        with site.services(clock) as services:
            core = Core(site, services, clock)
            assert core.enroll(tpm).chain == first.chain
            assert len(core.store.device_certificates(device_id)) == 1
            core.first_ldevid(tpm, first, device_id)
            younger = core.enroll(core.listed()[0])
            assert issuer_of(younger) == services.authority.birth.certificate.subject != issuer_of(first)


def test_a_device_of_a_birth_ca_that_the_root_revoked_is_born_again(tmp_path: Path) -> None:
    clock = Clock()
    with Installation.create(tmp_path) as site:
        with site.services(clock) as services:
            core = Core(site, services, clock)
            tpm, _ = core.listed()
            challenge = core.begin(tpm)
            answer = core.answer(tpm, challenge)
            first = core.finish(challenge, answer)
        old = site.pki.authority.birth.name
        site.pki.add(CaKind.BIRTH, label="next")
        site.pki.revoke(old)
        with pytest.raises(AuthorityBroken, match="have another one issue"), site.services(clock):
            pass
        site.put_to_use("birth-next")
        with site.services(clock) as services:
            core = Core(site, services, clock)
            with pytest.raises(BirthRevoked, match="Birth CA"):
                core.finish(challenge, answer)
            again = core.enroll(tpm)
            assert again.der != first.chain[0]
            assert issuer_of(again) == services.authority.birth.certificate.subject
