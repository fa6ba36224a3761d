"""The server's systemd units: what they start exists, and what a server does not need is taken away."""

from pathlib import Path

import pytest

from birthmark_server import cli

UNITS = Path(__file__).resolve().parents[2] / "server" / "systemd"


@pytest.fixture
def service() -> list[str]:
    return (UNITS / "birthmark.service").read_text("utf-8").splitlines()


def test_the_command_that_it_starts_exists(service: list[str]) -> None:
    (start,) = (line.partition("=")[2] for line in service if line.startswith("ExecStart="))
    _, *words = start.split()
    assert words == ["--config", "/etc/birthmark/birthmark.toml", "serve"]
    assert cli.run(lambda: cli.application()(["serve", "--help"])) == 0


@pytest.mark.parametrize(
    "setting",
    [
        "Type=notify",
        "User=birthmark",
        "LoadCredentialEncrypted=birthmark-ca:/etc/credstore.encrypted/birthmark-ca",
        "RestartPreventExitStatus=66 78",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "MemoryDenyWriteExecute=yes",
        "SystemCallFilter=@system-service",
        "UMask=0077",
    ],
)
def test_the_service_has_no_more_than_it_needs(service: list[str], setting: str) -> None:
    assert setting in service


def test_mosquitto_is_started_without_session_tickets() -> None:
    drop_in = (UNITS / "mosquitto-birthmark.conf").read_text("utf-8")
    assert "Environment=OPENSSL_CONF=/etc/mosquitto/birthmark/openssl.cnf" in drop_in


def test_mosquitto_is_never_root_as_the_server_may_write_beside_its_configuration() -> None:
    lines = (UNITS / "mosquitto-birthmark.conf").read_text("utf-8").splitlines()
    assert "User=mosquitto" in lines
    assert "ExecStartPre=" in lines  # Debian's own can't be run as that user
