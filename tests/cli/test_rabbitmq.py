"""A RabbitMQ cluster, as the command line sees it: its node's configuration, and what is said where nothing runs."""

import json
from pathlib import Path

import pytest

from birthmark_server.settings import load
from cli.conftest import Birthmark
from support.ports import free_port

TABLE = """
[broker.rabbitmq]
door = "127.0.0.1:{door}"
management = ["http://127.0.0.1:{management}"]
management_password = "file:{secret}"
nodes = ["rabbit@mq-1", "rabbit@mq-2"]
"""


@pytest.fixture
def folder(installation: Path) -> Path:
    """Where the node's files go, as the settings say; nothing runs."""
    folder, secret = installation / "rabbitmq", installation / "rabbitmq.password"
    secret.write_text("a password of some length\n")
    secret.chmod(0o600)
    config = installation / "birthmark.toml"
    head, after = config.read_text().split("[enrollment]")
    table = TABLE.format(door=free_port(), management=free_port(), secret=secret)
    head = head.replace("\n[broker]\n", f'\n[broker]\nkind = "rabbitmq"\ndeny_file = "{folder / "deny"}"\n')
    config.write_text(f"{head}{table}[enrollment]{after}")
    return folder


def test_a_nodes_configuration_is_written_from_the_settings(
    folder: Path, installation: Path, birthmark: Birthmark
) -> None:
    done = birthmark("broker", "config-rabbitmq", str(folder), "--json")
    assert done.status == 0, done.err
    written, rabbitmq = json.loads(done.out), load(installation / "birthmark.toml").broker.rabbitmq
    assert written["deny_file"] == str(folder / "deny")
    conf = (folder / "rabbitmq.conf").read_text()
    assert (folder / "rabbitmq.conf").stat().st_mode & 0o777 == 0o600
    for line in (
        "mqtt.listeners.ssl.1 = 0.0.0.0:8883",
        "listeners.tcp.1 = 127.0.0.1:5672",
        f"auth_http.user_path = http://{rabbitmq.door}/rabbitmq/user",
        f"management.tcp.port = {rabbitmq.management[0].rpartition(':')[2]}",
        "default_pass = a password of some length",
        "cluster_formation.classic_config.nodes.2 = rabbit@mq-2",
    ):
        assert f"{line}\n" in conf
    advanced = (folder / "advanced.config").read_text()
    assert str(installation / "broker" / "broker.pem") in advanced
    assert str(folder / "crl") in advanced
    for name in ("enabled_plugins", "deny", "ca-bundle.pem", "fleet-ca.pem", "infra-ca.pem", "crl"):
        assert (folder / name).exists(), name


def test_what_is_left_to_do_is_said(folder: Path, birthmark: Birthmark) -> None:
    elsewhere = folder.with_name("elsewhere")
    done = birthmark("broker", "config-rabbitmq", str(elsewhere))
    assert "RABBITMQ_CONFIG_FILE=" in done.err
    assert f'set in [broker]: deny_file = "{elsewhere / "deny"}"' in done.err
    assert "kind" not in done.err


def test_mosquittos_configuration_is_not_written_for_a_cluster(folder: Path, birthmark: Birthmark) -> None:
    done = birthmark("broker", "config", str(folder))
    assert done.status != 0
    assert "birthmark broker config-rabbitmq" in done.err


def test_a_cluster_that_is_down_is_shown_so(folder: Path, birthmark: Birthmark) -> None:
    birthmark("broker", "config-rabbitmq", str(folder))
    done = birthmark("broker", "status")
    assert done.status == 1
    assert "no node of the cluster answers" in done.err
    assert "no server answers the node's questions" in done.err
    assert f"there is no CRL in {folder / 'crl'}" in done.err
    (finding,) = (one for one in json.loads(birthmark("doctor", "--json").out) if one["what"] == "broker")
    assert (finding["state"], "no node of the cluster answers" in finding["seen"]) == ("wrong", True)
