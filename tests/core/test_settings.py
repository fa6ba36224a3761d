"""The settings file: documented, strict, and helpful about what is wrong."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from birthmark_server import settings
from birthmark_server.errors import Misconfigured
from birthmark_server.settings.whole import fields


def tables() -> dict[str, Any]:
    return tomllib.loads(settings.example())


def test_the_example_is_a_valid_file_and_names_every_key() -> None:
    text = settings.example()
    parsed = settings.parse(tomllib.loads(text), folder=Path("/etc/birthmark"))
    for section in settings.Settings.model_fields:
        for key in fields(section):
            assert f"\n{key} = " in text or f"\n# {key} = " in text
    assert parsed.public_url == "https://enroll.example:8443"


def test_every_key_is_described() -> None:
    for section in settings.Settings.model_fields:
        assert settings.Settings.model_fields[section].annotation.__doc__, section
        for key, field in fields(section).items():
            assert field.description, f"{section}.{key}"


def test_commented_defaults_are_the_defaults() -> None:
    uncommented = "\n".join(
        line.removeprefix("# ") if " = " in line and line.startswith("# ") else line
        for line in settings.example().splitlines()
    )
    whole = settings.parse(tomllib.loads(uncommented), folder=Path("/"))
    assert whole == settings.parse(tables(), folder=Path("/"))


@pytest.mark.parametrize(
    ("section", "key", "near"),
    [
        ("limits", "brust", "limits.burst"),
        ("server", "lisen", "server.listen"),
        ("est", "most_a_day", "est.most_per_day"),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_known_one_named(section: str, key: str, near: str) -> None:
    given = tables()
    given.setdefault(section, {})[key] = 3
    with pytest.raises(Misconfigured, match=rf"{section}\.{key} is not a setting; did you mean {near}\?"):
        settings.parse(given, folder=Path("/"))


def test_the_table_of_a_broker_can_be_taken_from_the_example() -> None:
    table = "\n".join(line.removeprefix("## ") for line in settings.example().splitlines() if line.startswith("## "))
    given = tables()
    given["broker"] |= tomllib.loads(table)["broker"]
    (shard,) = settings.parse(given, folder=Path("/")).broker.every
    assert (shard.name, shard.host, shard.port, shard.drain) == ("mqtt-1", "mqtt-1.example", 8883, False)


def shards(*given: dict[str, Any]) -> settings.BrokerSettings:
    whole = tables()
    whole["broker"]["shards"] = [dict(one) for one in given]
    return settings.parse(whole, folder=Path("/etc/birthmark")).broker


ONE = {"name": "mqtt-1", "host": "a.example"}


def test_without_shards_the_broker_is_the_only_one() -> None:
    (only,) = shards().every
    assert (only.name, only.host, only.port) == ("broker", "broker.example", 8883)


def test_a_shards_deny_file_starts_at_the_folder_of_the_settings() -> None:
    assert shards(ONE | {"deny_file": "mqtt-1/deny"}).shards[0].deny_file == "/etc/birthmark/mqtt-1/deny"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([ONE, ONE], "want a name of its own"),
        ([ONE | {"drain": True}], "want at least one broker that is not drained"),
        ([ONE | {"drian": True}], r"broker\.shards\.0\.drian is not a setting; did you mean broker\.shards\.drain"),
        ([ONE | {"name": "Mqtt 1"}], r"broker\.shards\.0\.name"),
    ],
)
def test_shards_that_make_no_sense_are_refused(given: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        shards(*given)


RABBIT = {"management_password": "file:/etc/birthmark/rabbitmq.password"}


def rabbit(given: dict[str, Any], **broker: Any) -> settings.BrokerSettings:
    whole = tables()
    whole["broker"] |= {"kind": "rabbitmq", "control": True, "deny_file": "deny", "rabbitmq": given} | broker
    return settings.parse(whole, folder=Path("/etc/birthmark")).broker


def test_mosquitto_is_what_a_broker_is_unless_it_is_said() -> None:
    assert settings.parse(tables(), folder=Path("/")).broker.kind == "mosquitto"


def test_the_table_of_a_cluster_says_where_its_nodes_are() -> None:
    broker = rabbit(RABBIT | {"nodes": ["rabbit@mq-1", "rabbit@mq-2"], "door": "[::1]:9000"})
    assert (broker.rabbitmq.door, broker.rabbitmq.nodes) == ("[::1]:9000", ["rabbit@mq-1", "rabbit@mq-2"])
    assert broker.rabbitmq.management == ["http://127.0.0.1:15672"]


def test_every_key_of_the_table_of_a_cluster_is_described() -> None:
    assert all(field.description for field in settings.RabbitMqSettings.model_fields.values())


@pytest.mark.parametrize(
    ("given", "broker", "said"),
    [
        (
            RABBIT | {"manegement": []},
            {},
            r"broker\.rabbitmq\.manegement is not .* did you mean broker\.rabbitmq\.manag",
        ),
        (RABBIT | {"door": "0.0.0.0:8085"}, {}, r"broker\.rabbitmq\.door: want a loopback address"),
        (RABBIT | {"door": "localhost:8085"}, {}, r"broker\.rabbitmq\.door"),
        (RABBIT | {"management": ["http://10.0.0.5:15672"]}, {}, "want plain HTTP at a loopback address"),
        (RABBIT | {"management": ["http://127.0.0.1"]}, {}, "want plain HTTP at a loopback address"),
        (RABBIT | {"management": []}, {}, r"broker\.rabbitmq\.management"),
        (RABBIT | {"nodes": ["mq 1"]}, {}, r"broker\.rabbitmq\.nodes"),
        ({}, {}, "want deny_file and rabbitmq.management_password"),
        (RABBIT, {"deny_file": ""}, "want deny_file and rabbitmq.management_password"),
        (RABBIT, {"shards": [ONE]}, "want no shards"),
        (RABBIT, {"kind": "rabbit"}, r"broker\.kind"),
    ],
)
def test_a_cluster_that_makes_no_sense_is_refused(given: dict[str, Any], broker: dict[str, Any], said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        rabbit(given, **broker)


def test_an_unknown_section_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"limit is not a setting; did you mean limits\?"):
        settings.parse(tables() | {"limit": {}}, folder=Path("/"))


def test_every_fault_is_named_at_once() -> None:
    given = tables()
    del given["database"]["url"]
    given["server"]["workers"] = "two"
    given["server"]["listen"] = "8443"
    with pytest.raises(Misconfigured) as caught:
        settings.parse(given, folder=Path("/"))
    assert "database.url is missing" in str(caught.value)
    assert "server.workers: Input should be a valid integer, got 'two'" in str(caught.value)
    assert "server.listen: want HOST:PORT" in str(caught.value)


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "birthmark.toml"
    given = settings.example().replace("/etc/birthmark/ca", "ca").replace("/var/lib/birthmark/journal", "../journal")
    file.write_text(given)
    loaded = settings.load(file)
    assert loaded.ca.folder == str(tmp_path / "ca")
    assert loaded.database.journal == str(tmp_path / "../journal")


def test_a_missing_or_broken_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="can't read the settings file"):
        settings.load(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("[server\n")
    with pytest.raises(Misconfigured, match="is not TOML"):
        settings.load(tmp_path / "broken.toml")
