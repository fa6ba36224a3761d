"""One distribution, two extras: the program of the other one says in a sentence which is missing."""

import subprocess
import sys

import pytest


def run_without(module: str, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program as where `module` is not installed."""
    code = f"import sys; sys.modules[{module!r}] = None; {program}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_birthmark_on_a_device_names_the_extra(module: str) -> None:
    done = run_without(module, "from birthmark_server.entry import main; main()")
    assert done.returncode == 69
    assert done.stderr.count("\n") == 1
    assert f"(there is no {module}" in done.stderr
    assert "pip install 'birthmark[server]'" in done.stderr


@pytest.mark.parametrize("command", ["status", "doctor", "enroll"])
@pytest.mark.parametrize("module", ["cryptography", "paho", "tpm2_pytss"])
def test_birthmark_agent_on_a_server_names_the_extra(command: str, module: str) -> None:
    agent = f"from birthmark_agent.cli import main; sys.exit(main(['--config', '/nowhere.toml', '{command}']))"
    done = run_without(module, agent)
    assert (done.returncode, done.stderr.count("\n")) == (69, 1), done.stderr
    assert "pip install 'birthmark[agent]'" in done.stderr


def test_the_door_opens_where_all_is_there() -> None:
    done = run_without(
        "nothing_of_that_name", "sys.argv = ['birthmark', 'version']; from birthmark_server.entry import main; main()"
    )
    assert done.stdout.startswith("birthmark ")
