"""Mosquitto's configuration: checked, written whole, and tried."""

from dataclasses import replace
from pathlib import Path

import pytest

from birthmark_server.broker.denyfile import DenyFile
from birthmark_server.broker.mosquitto import MosquittoSettings, render, write_config
from birthmark_server.broker.trial import try_config
from birthmark_server.errors import Misconfigured
from support.broker_pki import CONTROL_EKU, DENY_EKU, BrokerPki
from support.mosquitto import build_gate


@pytest.fixture
def settings(pki: BrokerPki, tmp_path: Path) -> MosquittoSettings:
    """Settings that are right, with a plugin that is only a file."""
    leaf = pki.broker()
    plugin = tmp_path / "birthmark_gate.so"
    plugin.touch()
    return MosquittoSettings(
        folder=tmp_path / "broker",
        plugin=plugin,
        certificate=leaf.chain,
        key=leaf.key,
        trust_domain=pki.trust_domain,
        control_eku=CONTROL_EKU,
        deny_eku=DENY_EKU,
        roots=(pki.root.certificate,),
        fleet=(pki.fleet.certificate,),
        infra=(pki.infra.certificate,),
        user="root",
    )


def test_everything_is_written_and_nothing_secret(settings: MosquittoSettings) -> None:
    written = write_config(settings)
    names = sorted(path.name for path in settings.folder.iterdir())
    assert names == [
        "ca-bundle.pem",
        "fleet-ca.pem",
        "infra-ca.pem",
        "mosquitto.conf",
        "openssl.cnf",
        "sessions",
    ]
    assert written.conf.read_text() == render(settings)
    assert not [path for path in settings.folder.iterdir() if path.is_file() and b"PRIVATE" in path.read_bytes()]


def test_writing_again_keeps_the_deny_list(settings: MosquittoSettings, pki: BrokerPki) -> None:
    deny = DenyFile(write_config(settings).deny_file, signer=pki.deny_signer)
    deny.create()
    deny.add(devices=["a"])
    write_config(settings)
    assert deny.read().devices == {"a"}


def test_the_bundle_holds_the_root_and_both_cas_and_no_birth_ca(settings: MosquittoSettings) -> None:
    write_config(settings)
    assert (settings.folder / "ca-bundle.pem").read_text().count("BEGIN CERTIFICATE") == 3


def test_what_makes_the_gate_work_is_always_there(settings: MosquittoSettings) -> None:
    lines = render(settings).splitlines()
    for line in (
        "per_listener_settings false",
        "allow_anonymous false",
        "require_certificate true",
        "tls_version tlsv1.3",
        "set_tcp_nodelay true",
        "max_queued_messages 0",
        "autosave_on_changes true",
        "retain_available false",
    ):
        assert line in lines
    # It would skip the gate's own check of a client (mosquitto: the certificate is the password then).
    assert not [line for line in lines if line.startswith(("use_identity_as_username", "use_subject_as_username"))]


@pytest.mark.parametrize(
    "change",
    [
        {"folder": Path("relative")},
        {"folder": Path("/tmp/line\nallow_anonymous true")},
        {"folder": Path("/tmp/ends in space ")},
        {"plugin": Path("/not/there.so")},
        {"certificate": Path("/not/there.pem")},
        {"key": Path("/not/there.pem")},
        {"trust_domain": "Fleet.Test"},
        {"trust_domain": "fleet test"},
        {"control_eku": "control"},
        {"deny_eku": "deny"},
        {"address": "0.0.0.0\nallow_anonymous true"},
        {"address": "a b"},
        {"user": "root\nx"},
        {"user": ""},
        {"roots": ()},
        {"fleet": ()},
        {"infra": ()},
        {"crls": (b"garbage",)},
        {"port": 0},
        {"port": 65_536},
        {"max_connections": 0},
        {"max_connections": 1_000_001},
    ],
    ids=str,
)
def test_what_cannot_stand_is_refused_and_nothing_is_written(
    settings: MosquittoSettings, change: dict[str, object]
) -> None:
    with pytest.raises(Misconfigured):
        write_config(replace(settings, **change))  # type: ignore[arg-type]  # one field each
    assert not settings.folder.exists()


def test_one_key_for_devices_and_control_is_refused(settings: MosquittoSettings) -> None:
    with pytest.raises(Misconfigured, match="same key"):
        write_config(replace(settings, infra=settings.fleet))


def test_a_ca_without_a_crl_is_refused_where_others_have_one(settings: MosquittoSettings, pki: BrokerPki) -> None:
    with pytest.raises(Misconfigured, match="Test Infra CA"):
        write_config(replace(settings, crls=(pki.fleet.crl(),)))
    write_config(replace(settings, crls=(pki.fleet.crl(), pki.infra.crl())))
    assert (settings.folder / "crl.pem").read_text().count("BEGIN X509 CRL") == 2


@pytest.mark.parts
class TestTrial:
    """Asked of Mosquitto itself."""

    def test_mosquitto_starts_with_what_is_written(self, settings: MosquittoSettings, pki: BrokerPki) -> None:
        real = replace(settings, plugin=build_gate(), crls=(pki.fleet.crl(), pki.infra.crl()))
        DenyFile(write_config(real).deny_file, signer=pki.deny_signer).create()
        assert try_config(real).startswith("2.")

    def test_a_key_that_is_not_the_certificates_is_found(self, settings: MosquittoSettings, pki: BrokerPki) -> None:
        wrong = replace(settings, plugin=build_gate(), key=pki.device("dev-1").key)
        write_config(wrong)
        with pytest.raises(Misconfigured, match="does not start"):
            try_config(wrong)

    def test_a_plugin_that_is_none_is_found(self, settings: MosquittoSettings) -> None:
        write_config(settings)
        with pytest.raises(Misconfigured, match=r"birthmark_gate\.so"):
            try_config(settings)
