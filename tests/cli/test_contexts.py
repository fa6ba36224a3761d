"""Contexts: where to work, kept in a file that is its owner's alone."""

import json
import shutil
from pathlib import Path

import pytest

from birthmark_server.cli.contexts import BadContext, Context, Contexts, read_contexts, write_contexts
from cli.conftest import Birthmark, Ran

PLANT = Context("https://plant.example:8443", "/c.pem", "/c.pem", "/root.pem", "ab" * 32)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's contexts are."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "birthmark" / "contexts.toml"


def add(birthmark: Birthmark, installation: Path, name: str = "plant-7", **changes: str) -> Ran:
    options = {
        "server": "https://localhost:1",
        "certificate": str(installation / "operators" / "alice.pem"),
        "root": str(installation / "ca" / "root.pem"),
    } | changes
    words = [word for option, value in options.items() for word in (f"--{option.replace('_', '-')}", value)]
    return birthmark("context", "add", name, *words, config=None)


def test_contexts_are_added_used_listed_and_removed(birthmark: Birthmark, installation: Path, home: Path) -> None:
    added = add(birthmark, installation)
    assert (added.status, "pinned" in added.err) == (0, True)
    assert oct(home.stat().st_mode & 0o777) == "0o600"
    assert oct(home.parent.stat().st_mode & 0o777) == "0o700"
    assert add(birthmark, installation, "plant-8").status == 0
    assert add(birthmark, installation).status == 73
    current = {line["name"]: line["current"] for line in listed(birthmark)}
    assert current == {"local": False, "plant-7": True, "plant-8": False}
    assert birthmark("context", "use", "plant-8", config=None).status == 0
    assert birthmark("context", "remove", "plant-8", config=None).status == 0
    assert {line["name"]: line["current"] for line in listed(birthmark)} == {"local": True, "plant-7": False}
    assert birthmark("context", "use", "plant-9", config=None).status == 78
    assert birthmark("context", "remove", "local", config=None).status == 65


def listed(birthmark: Birthmark) -> list[dict[str, object]]:
    lines: list[dict[str, object]] = json.loads(birthmark("context", "list", "--json", config=None).out)
    return lines


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"server": "http://localhost"}, 65),
        ({"server": "https://user@localhost"}, 65),
        ({"server": "https://localhost/path"}, 65),
        ({"server": "https://localhost:x"}, 65),
        ({"server": "https://"}, 65),
        ({"name": "local"}, 65),
        ({"name": "../x"}, 65),
        ({"root_sha256": "ab" * 32}, 65),
        ({"root": "/nowhere"}, 66),
        ({"certificate": "/nowhere"}, 66),
    ],
)
def test_what_makes_no_context_is_refused(
    birthmark: Birthmark, installation: Path, home: Path, changes: dict[str, str], status: int
) -> None:
    name = changes.pop("name", "plant-7")
    done = add(birthmark, installation, name, **changes)
    assert done.status == status, done.err
    assert not home.exists()


def test_a_key_that_others_may_read_makes_no_context(birthmark: Birthmark, installation: Path, home: Path) -> None:
    (installation / "operators" / "alice.pem").chmod(0o644)
    done = add(birthmark, installation)
    assert (done.status, "chmod 600" in done.err) == (78, True)


@pytest.mark.parametrize(
    "text",
    [
        "not TOML",
        'current = "gone"',
        "current = 1",
        'more = "x"',
        'contexts = "x"',
        "[contexts.a]\nserver = 1",
        '[contexts.a]\nserver = "https://x"',
        '[contexts.a]\nserver="s"\ncertificate="c"\nkey="k"\nroot="r"\nroot_sha256="x"\nmore="y"',
    ],
)
def test_a_file_that_is_none_is_refused(birthmark: Birthmark, home: Path, text: str) -> None:
    write_contexts(Contexts())
    home.write_text(text)
    with pytest.raises(BadContext):
        read_contexts()
    assert birthmark("device", "list", config=None).status == 78


def test_a_file_that_others_may_read_or_replace_is_refused(birthmark: Birthmark, home: Path) -> None:
    write_contexts(Contexts("plant-7", {"plant-7": PLANT}))
    assert read_contexts().named("plant-7") == PLANT
    home.chmod(0o644)
    done = birthmark("device", "list", config=None)
    assert (done.status, f"chmod 600 {home}" in done.err) == (78, True)
    home.chmod(0o600)
    home.parent.chmod(0o777)
    done = birthmark("device", "list", config=None)
    assert (done.status, "chmod go-w" in done.err) == (78, True)


def test_a_settings_file_means_this_machine_whatever_context_is_in_use(
    birthmark: Birthmark, installation: Path, home: Path
) -> None:
    add(birthmark, installation)
    assert birthmark("device", "list").status == 0
    done = birthmark("--context", "plant-7", "device", "list")
    assert (done.status, "https://localhost:1" in done.err) == (69, True)
    assert birthmark("--context", "local", "device", "list").status == 0


@pytest.mark.parametrize("words", [("serve",), ("doctor",), ("broker", "sync"), ("database", "upgrade")])
def test_what_needs_the_servers_machine_says_so(
    birthmark: Birthmark, installation: Path, home: Path, words: tuple[str, ...]
) -> None:
    add(birthmark, installation)
    done = birthmark(*words, config=None)
    assert (done.status, "--context local" in done.err) == (64, True), done.err


def test_a_root_that_was_replaced_is_not_believed(
    birthmark: Birthmark, installation: Path, home: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root.pem"
    shutil.copy(installation / "ca" / "root.pem", root)
    add(birthmark, installation, root=str(root))
    assert birthmark("init", str(tmp_path / "other"), "--demo", config=None).status == 0
    shutil.copy(tmp_path / "other" / "ca" / "root.pem", root)
    done = birthmark("device", "list", config=None)
    assert (done.status, "not the root that was pinned" in done.err) == (78, True)


def test_from_afar_the_context_says_who_acts(birthmark: Birthmark, installation: Path, home: Path) -> None:
    add(birthmark, installation)
    alice = str(installation / "operators" / "alice.pem")
    assert birthmark("device", "revoke", "x", "--operator", alice, config=None).status == 64
