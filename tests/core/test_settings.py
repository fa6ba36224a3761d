"""The settings file: documented, strict, and helpful about what is wrong."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from birthmark_server import settings
from birthmark_server.errors import Misconfigured


def tables() -> dict[str, Any]:
    return tomllib.loads(settings.example())


def test_the_example_is_a_valid_file_and_names_every_key() -> None:
    text = settings.example()
    parsed = settings.parse(tomllib.loads(text), folder=Path("/etc/birthmark"))
    for section in settings.Settings.model_fields:
        for key in settings._fields(section):
            assert f"\n{key} = " in text or f"\n# {key} = " in text
    assert parsed.public_url == "https://enroll.example:8443"


def test_every_key_is_described() -> None:
    for section in settings.Settings.model_fields:
        assert settings.Settings.model_fields[section].annotation.__doc__, section
        for key, field in settings._fields(section).items():
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
