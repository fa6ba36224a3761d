"""Settings: what is known is read, what is not is refused by name."""

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from birthmark_agent.errors import Misconfigured
from birthmark_agent.settings import Settings, load_settings, parse_settings

EXAMPLE = Path(__file__).parents[2] / "device_agent" / "birthmark-agent.example.toml"
LEAST = {"server": {"url": "https://enroll.example:8443", "anchors": "root.pem"}}


def parse(document: dict[str, object]) -> Settings:
    return parse_settings(document, folder=Path("/etc/birthmark"))


def test_server_and_root_are_all_that_must_be_said() -> None:
    settings = parse(dict(LEAST))
    assert (settings.server.host, settings.server.port) == ("enroll.example", 8443)
    assert settings.server.anchors == Path("/etc/birthmark/root.pem")
    assert settings.state == Path("/var/lib/birthmark-agent")
    assert settings.renewal.fraction == pytest.approx(2 / 3)


def test_the_example_shows_every_key_with_its_default() -> None:
    text = EXAMPLE.read_text()
    uncommented = "\n".join(
        line[1:] if line.startswith("#") and line[1:2].isalpha() else line for line in text.split("\n")
    )
    shown = parse(tomllib.loads(uncommented))
    assert shown.image_time == datetime(2026, 1, 31, 12, tzinfo=UTC)
    least = parse(dict(LEAST))
    assert {name: getattr(shown, name) for name in Settings.__slots__ if name != "image_time"} == {
        name: getattr(least, name) for name in Settings.__slots__ if name != "image_time"
    }


def test_the_example_as_it_is_can_be_read() -> None:
    assert load_settings(EXAMPLE).server.host == "enroll.example"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "server.url: is missing; server.anchors: is missing"),
        ({"server": {"ulr": "https://e", "anchors": "r"}}, "server.ulr: no such key; did you mean server.url?"),
        ({"mqqt": {}, "retry": {"frist_s": 1}}, "mqqt: no such key; did you mean mqtt?; retry.frist_s: no such key"),
        ({"server": {"url": "", "anchors": "r"}}, "server.url: want https://"),
        ({**LEAST, "mqtt": {"keep_alive_s": 5}}, "mqtt.keep_alive_s: no such key; did you mean mqtt.keepalive_s?"),
        ({**LEAST, "mqqt": {}}, "mqqt: no such key; did you mean mqtt?"),
        ({**LEAST, "zzz": 1}, "zzz: no such key; known here: applications, clock, hook, log"),
        ({**LEAST, "mqtt": 7}, "mqtt: want a table"),
        ({**LEAST, "mqtt": {"port": 70_000}}, "mqtt.port: want an integer, 0 to 65535; got 70000"),
        ({**LEAST, "mqtt": {"port": True}}, "mqtt.port: want an integer"),
        ({**LEAST, "renewal": {"fraction": 1.5}}, "renewal.fraction: want a number, 0.05 to 0.95; got 1.5"),
        ({**LEAST, "tpm": {"tcti": 1}}, "tpm.tcti: want a string, got 1"),
        ({**LEAST, "tpm": {"ek_template": "rsa4096"}}, "tpm.ek_template: want one of"),
        ({**LEAST, "clock": {"image_time": datetime(2026, 1, 1)}}, "clock.image_time: want a time with a zone"),  # noqa: DTZ001
        ({**LEAST, "applications": {"users": {"Meter": 1}}}, "applications.users: want names of 1 to 32"),
        ({**LEAST, "applications": {"users": {"m": "nobody-here"}}}, "applications.users.m: there is no user"),
        ({**LEAST, "applications": {"users": {"m": [0, 1.5]}}}, "applications.users.m: want a user name or id"),
        ({**LEAST, "applications": {"users": 1}}, "applications.users: want a table"),
        ({**LEAST, "hook": {"timeout_s": 0}}, "hook.timeout_s: want a number"),
        ({"server": {"url": "http://enroll.example", "anchors": "r"}}, "server.url: want https://"),
        ({"server": {"url": "https://enroll.example/path", "anchors": "r"}}, "server.url: want https://"),
        ({"server": {"url": "https://enroll.example:port", "anchors": "r"}}, "server.url: "),
    ],
)
def test_what_is_wrong_is_named(document: dict[str, object], message: str) -> None:
    with pytest.raises(Misconfigured, match=re.escape(message)):
        parse(document)


def test_applications_are_users_by_name_or_id_and_paths_are_relative_to_the_file() -> None:
    users = {"meter": "root", "logger": ["root", 1001]}
    settings = parse({**LEAST, "applications": {"socket": "apps", "users": users}, "hook": {"command": "/bin/true"}})
    assert settings.applications.users == {"meter": (0,), "logger": (0, 1001)}
    assert settings.applications.socket == Path("/etc/birthmark/apps")
    assert settings.hook.command == Path("/bin/true")


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[server")
    with pytest.raises(Misconfigured, match=r"agent\.toml"):
        load_settings(path)
    with pytest.raises(Misconfigured, match="No such file"):
        load_settings(tmp_path / "absent.toml")
    path.write_bytes(b"\xff")
    with pytest.raises(Misconfigured, match="UTF-8"):
        load_settings(path)
