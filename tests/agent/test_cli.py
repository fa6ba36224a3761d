"""The command line: it teaches, it says what failed by its exit code, and it carries nothing that a device lacks."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from birthmark_agent import cli, errors, http
from birthmark_agent.command import CommandRefused
from birthmark_agent.errors import AgentError
from birthmark_agent.trust_bundle import TrustRefused
from birthmark_agent.version import AGENT, VERSION

COMMANDS = ("enroll", "run", "status", "renew", "trace", "doctor")


def test_help_names_every_command_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    for word in (*COMMANDS, "exit codes", "69", "74", "75", "76", "77", "78", "doctor     finds what is wrong"):
        assert word in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--help"])
    assert left.value.code == 0
    assert len(capsys.readouterr().out) > 200


def test_without_a_command_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert "birthmark-agent enroll" in capsys.readouterr().out


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    assert version("birthmark") == VERSION
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == AGENT
    assert len(AGENT) <= 64


def test_wrong_usage_is_exit_code_2() -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["enrol"])
    assert left.value.code == 2


def test_a_settings_file_that_is_not_there_is_exit_code_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--config", str(tmp_path / "none.toml"), "status"]) == 78
    assert "none.toml" in capsys.readouterr().err


def test_bash_completes_commands_and_options() -> None:
    script = subprocess.run(
        [sys.executable, "-m", "birthmark_agent", "--completion", "bash"], capture_output=True, text=True, check=True
    ).stdout
    ask = "COMP_WORDS=(birthmark-agent {words}); COMP_CWORD={at}; _birthmark_agent; echo ${{COMPREPLY[*]}}"
    for words, at, wanted in [("e", 1, "enroll"), ("trace --s", 2, "--server"), ("status --", 2, "--json --help")]:
        done = subprocess.run(
            ["bash", "-c", f"{script}\n{ask.format(words=words, at=at)}"], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == wanted


def every_error(kind: type[AgentError] = AgentError) -> set[type[AgentError]]:
    return {kind}.union(*(every_error(below) for below in kind.__subclasses__()))


def test_every_error_has_a_stable_code_of_its_own_and_an_exit_code() -> None:
    import birthmark_agent.doctor
    import birthmark_agent.run
    import birthmark_agent.trace  # noqa: F401  # so that every error class is known

    ours = {kind for kind in every_error() if kind.__module__.startswith("birthmark_agent")}
    codes = [kind.code for kind in ours if "code" in vars(kind)]
    assert len(codes) == len(set(codes))
    table = cli._exit_codes()
    without = {kind.__name__ for kind in ours if not any(ancestor in table for ancestor in kind.__mro__)}
    # What is left is exit code 70: it says itself what it is, and nothing tells one from another by a number.
    no_command_ends_with = {
        "ClockNotSet",
        "HookFailed",
        "LineRefused",
        "NotYet",
        "ServerRefusedJob",
        "SignerRefused",
        "TrustDamaged",
    }
    no_command_ends_with |= {kind.__name__ for root in (CommandRefused, TrustRefused) for kind in every_error(root)}
    assert without - no_command_ends_with == {
        "AgentError",
        "ServerSaidNo",
        "IdentityDamaged",
        "RenewalFailed",
        "NoCertificate",
    }


def test_every_failure_says_what_can_be_done_about_it() -> None:
    import birthmark_agent.run
    import birthmark_agent.trace  # noqa: F401  # so that every error class is known

    ours = {kind for kind in every_error() if kind.__module__.startswith("birthmark_agent")} - {AgentError}
    silent = {kind.__name__ for kind in ours if len(kind.advice.split()) < 3}
    assert silent == {"ServerSaidNo"}  # never raised itself
    assert not [kind for kind in ours if "see docs" in kind.advice]


def test_exit_codes_look_through_to_the_cause() -> None:
    failed = errors.TlsKeyFailed("the key could not sign")
    failed.__cause__ = errors.TpmBusy("it tests itself")
    assert cli.exit_code(failed) == 75
    assert cli.exit_code(errors.TpmUnavailable("no TPM there")) == 69
    assert cli.exit_code(errors.TlsKeyFailed("not the certificate's key")) == 69
    assert cli.exit_code(http.TlsFailed("refused", peer=True)) == 77
    assert cli.exit_code(http.TlsFailed("wrong root", peer=False)) == 76
    assert cli.exit_code(errors.TpmLockout("lockout")) == 69


def test_the_agent_carries_nothing_of_the_server() -> None:
    code = """
import importlib, pkgutil, sys
import birthmark_agent, birthmark_wire
for package in (birthmark_agent, birthmark_wire):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
forbidden = {"birthmark_server", "aiohttp", "sqlmodel", "sqlalchemy", "typer", "rich", "pkcs11", "pydantic", "alembic"}
print(sorted(forbidden & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("command", "absent"),
    [(["--help"], ("paho", "tpm2_pytss", "cryptography")), (["--completion", "bash"], ("ssl.SSL", "paho"))],
)
def test_what_a_command_does_not_need_it_does_not_import(command: list[str], absent: tuple[str, ...]) -> None:
    code = (
        "import sys; from birthmark_agent.cli import main\n"
        f"try: main({command!r})\nexcept SystemExit: pass\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in absent if f"'{name}'" in done.stderr]
