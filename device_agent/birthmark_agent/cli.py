"""`birthmark-agent`: the command line. Light: what a command does not need, it does not import.

Results go to standard output, log lines and errors to standard error. Exit codes are sysexits.h's where it has one:
0 well, 1 the command worked and found something wrong (doctor, trace), 2 wrong usage, and EXIT_CODES for what failed.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from birthmark_agent import errors
from birthmark_agent.errors import AgentError

if TYPE_CHECKING:
    from birthmark_agent.identity import Identities

EX_OK: Final = 0
EX_FOUND: Final = 1
EX_UNAVAILABLE: Final = 69
EX_SOFTWARE: Final = 70
EX_IOERR: Final = 74
EX_TEMPFAIL: Final = 75
EX_PROTOCOL: Final = 76
EX_NOPERM: Final = 77
EX_CONFIG: Final = 78

_EPILOG: Final = """\
a first device:
  1. write /etc/birthmark/agent.toml: server.url, server.anchors (the root that this device trusts), tpm.tcti
  2. birthmark-agent doctor     finds what is wrong with TPM, clock, files, server and broker, and says what to do
  3. birthmark-agent enroll     proves the TPM to the server; gets birth and operational certificate
  4. birthmark-agent trace      shows the mutual TLS handshake with the broker, step by step
  5. systemctl enable --now birthmark-agent      (birthmark-agent run)

exit codes:
  0 well; 1 doctor or trace found something wrong; 2 wrong usage; 69 the TPM failed or is not there; 70 anything
  else; 74 the disk failed; 75 not now, try again (network, server or TPM busy, another agent at work); 76 the server is
  not the one that this device trusts, or its answer can't be used; 77 refused; 78 a setting must be changed
"""

_COMPLETION: Final = """\
_birthmark_agent() {
    local word="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" command="" i
    local options="--config --completion --version --help"
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${COMP_WORDS[i]}" in enroll|run|identify|status|renew|trace|doctor) command="${COMP_WORDS[i]}" ;; esac
    done
    case "$previous" in
        --config) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --completion) COMPREPLY=($(compgen -W "bash" -- "$word")); return ;;
    esac
    case "$command" in
        "") COMPREPLY=($(compgen -W "enroll run identify status renew trace doctor $options" -- "$word")) ;;
        enroll) COMPREPLY=($(compgen -W "--again --json --help" -- "$word")) ;;
        trace) COMPREPLY=($(compgen -W "--server --json --help" -- "$word")) ;;
        run) COMPREPLY=($(compgen -W "--console --help" -- "$word")) ;;
        identify) COMPREPLY=($(compgen -W "--console --serial --help" -- "$word")) ;;
        *) COMPREPLY=($(compgen -W "--json --help" -- "$word")) ;;
    esac
}
complete -F _birthmark_agent birthmark-agent
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    # libtss2 writes lines of its own to stderr; every error comes up as an exception anyway.
    os.environ.setdefault("TSS2_LOG", "all+NONE")
    os.umask(0o077)  # whatever the agent writes is its own
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.completion:
        print(_COMPLETION, end="")
        return EX_OK
    if arguments.version:
        from birthmark_agent.version import AGENT

        print(AGENT)
        return EX_OK
    if arguments.command is None:
        parser.print_help()
        return EX_OK
    try:
        _require_the_extra()
        code: int = arguments.command(arguments)
    except AgentError as error:
        print(f"birthmark-agent: {error}", file=sys.stderr)
        if error.advice:
            print(f"  {error.advice}", file=sys.stderr)
        return exit_code(error)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("birthmark"):
            raise
        print(
            f"birthmark-agent: the agent is not installed here (there is no {error.name}): "
            "pip install 'birthmark[agent]'",
            file=sys.stderr,
        )
        return EX_UNAVAILABLE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return code


def _require_the_extra() -> None:
    """Raise ModuleNotFoundError on a server, which has this program too, before anything else is found missing."""
    for name in ("cryptography", "paho", "tpm2_pytss"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(name=name)


def exit_code(error: AgentError) -> int:
    """Return the exit code of an error: of its nearest ancestor in the table."""
    from birthmark_agent import http

    if isinstance(error, errors.TlsKeyFailed) and isinstance(error.__cause__, AgentError):
        return exit_code(error.__cause__)
    if isinstance(error, http.TlsFailed) and error.peer:
        return EX_NOPERM
    table = _exit_codes()
    return next((table[kind] for kind in type(error).__mro__ if kind in table), EX_SOFTWARE)


def _exit_codes() -> dict[type, int]:
    from birthmark_agent import apart, birth, clock, http, mqtt, server_chain, status

    return {
        errors.Misconfigured: EX_CONFIG,
        birth.NoEndorsement: EX_CONFIG,
        errors.StorageFailed: EX_IOERR,
        errors.TpmError: EX_UNAVAILABLE,
        errors.TpmBusy: EX_TEMPFAIL,
        errors.TlsKeyFailed: EX_UNAVAILABLE,
        apart.WorkLost: EX_TEMPFAIL,
        http.Unreachable: EX_TEMPFAIL,
        http.Unavailable: EX_TEMPFAIL,
        http.Refused: EX_NOPERM,
        http.TlsFailed: EX_PROTOCOL,
        errors.UnusableAnswer: EX_PROTOCOL,
        birth.BadChallenge: EX_PROTOCOL,
        clock.TimeRefused: EX_PROTOCOL,
        server_chain.ChainRefused: EX_PROTOCOL,
        mqtt.BrokerRefused: EX_NOPERM,
        mqtt.ConnectionLost: EX_TEMPFAIL,
        status.AlreadyRunning: EX_TEMPFAIL,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="birthmark-agent",
        description="Gives this device an identity from its TPM 2.0, keeps it alive, and connects it over mutual TLS.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings (default: $BIRTHMARK_AGENT_CONFIG or /etc/birthmark/agent.toml)",
    )
    parser.add_argument("--completion", choices=["bash"], help="print the completion script of a shell")
    parser.add_argument("--version", action="store_true", help="print name and version")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str, more: str) -> argparse.ArgumentParser:
        one = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}. {more}", allow_abbrev=False
        )
        one.set_defaults(command=command)
        return one

    enroll = add(
        "enroll",
        _enroll,
        "get an identity by the cheapest way that is open",
        "Tries, in this order: the certificates it has (asking the server about each), the birth certificate, and a "
        "new attestation of the TPM, for which the server gives the same birth certificate again. Safe to repeat.",
    )
    enroll.add_argument("--again", action="store_true", help="attest the TPM again even if an identity is there")
    _json_option(enroll)
    run = add(
        "run",
        _run,
        "stay connected and renew in time, until stopped",
        "Enrolls first where that is needed. SIGHUP renews at once, SIGTERM stops in order. For systemd: Type=notify.",
    )
    run.add_argument("--console", action="store_true", help="say on standard output what becomes of this device")
    identify = add(
        "identify",
        _identify,
        "say who this device is, to the station that makes it",
        "Prints one line of JSON: EK certificates, EK, AK, a request by the birth key, MAC. Asks nobody but the TPM.",
    )
    identify.add_argument("--serial", type=_serial, help="the serial number that the station gave it")
    identify.add_argument("--console", action="store_true", help="mark the line, for a console with other lines")
    _json_option(
        add(
            "status",
            _status,
            "show what this device has, until when, and what it will do next",
            "Needs neither the TPM nor the network. Exit code 1 if there is no certificate that is valid now.",
        )
    )
    _json_option(
        add(
            "renew",
            _renew,
            "get a new certificate now and switch to it",
            "Tells the running agent to, and waits for the outcome; without one, connects for as long as it takes.",
        )
    )
    trace = add(
        "trace",
        _trace,
        "show a mutual TLS handshake step by step, as it happens",
        "Connects to the broker with this device's certificate and prints seven steps, each with its evidence; stops "
        "at the one that fails and says why (exit code 1).",
    )
    trace.add_argument("--server", action="store_true", help="connect to the enrollment server instead of the broker")
    _json_option(trace)
    _json_option(
        add(
            "doctor",
            _doctor,
            "find what is wrong and say what to do",
            "Changes nothing. Exit code 1 if anything is wrong.",
        )
    )
    return parser


def _serial(text: str) -> str:
    from birthmark_wire import ids
    from birthmark_wire.errors import DecodeError

    try:
        return ids.printable_name(text, field="serial")
    except DecodeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def _identities(arguments: argparse.Namespace) -> "Identities":
    from birthmark_agent import log
    from birthmark_agent.identity import Identities
    from birthmark_agent.settings import DEFAULT_PATH, PATH_VARIABLE, load_settings

    path = arguments.config or Path(os.environ.get(PATH_VARIABLE) or DEFAULT_PATH)
    settings = load_settings(path)
    log.set_up(settings.log_level if arguments.command is _run else "warning")
    return Identities(settings)


# -- the commands


def _enroll(arguments: argparse.Namespace) -> int:
    from birthmark_agent import status_text
    from birthmark_agent.homecoming import Homecoming
    from birthmark_agent.status import hold_lock, read_status

    identities = _identities(arguments)
    with hold_lock(identities.settings.state):
        homecoming = Homecoming(identities)
        homecoming.attest_and_heal() if arguments.again else homecoming.find_proven()
    status = read_status(identities)
    _print(arguments, asdict(status), lambda: status_text.identity_lines(status))
    return EX_OK


def _run(arguments: argparse.Namespace) -> int:
    from birthmark_agent.console import SILENT, Console
    from birthmark_agent.run import Agent
    from birthmark_agent.status import hold_lock
    from birthmark_agent.systemd import Notifier

    identities = _identities(arguments)
    with hold_lock(identities.settings.state):
        console = Console(partial(print, flush=True)) if arguments.console else SILENT
        agent = Agent(identities, notifier=Notifier(), console=console)
        signal.set_wakeup_fd(agent.wake_fd, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.stop())
        signal.signal(signal.SIGHUP, lambda *_: agent.request_renewal())
        agent.run()
    return EX_OK


def _identify(arguments: argparse.Namespace) -> int:
    from birthmark_agent.identify import identify
    from birthmark_wire.factory import IDENTITY_MARK

    identities = _identities(arguments)
    with identities.open_tpm() as tpm:
        seen = identify(tpm, ek_template=identities.settings.ek_template, serial=arguments.serial or "")
    print(IDENTITY_MARK if arguments.console else "", seen.encode().decode(), sep="")
    return EX_OK


def _renew(arguments: argparse.Namespace) -> int:
    from birthmark_agent import status_text
    from birthmark_agent.run import Agent
    from birthmark_agent.status import hold_lock, read_status, running_pid
    from birthmark_agent.systemd import Notifier

    identities = _identities(arguments)
    pid = running_pid(identities.settings.state)
    if pid is None:
        with hold_lock(identities.settings.state):
            Agent(identities, notifier=Notifier({})).renew_once()
    else:
        _renew_running(identities, pid)
    status = read_status(identities)
    _print(arguments, asdict(status), lambda: status_text.identity_lines(status))
    return EX_OK


def _renew_running(identities: "Identities", pid: int, *, patience_s: float = 60.0) -> None:
    """Ask the running agent, and wait until it says how it went."""
    from birthmark_agent.run import RenewalFailed
    from birthmark_agent.status import read_status

    before = read_status(identities).report
    os.kill(pid, signal.SIGHUP)
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        time.sleep(0.05)
        report = read_status(identities).report
        if report.renewals > before.renewals:
            return
        if report.renewal_attempts > before.renewal_attempts:
            raise RenewalFailed(report.renewal_reason)
    raise RenewalFailed(f"the running agent (process {pid}) did not finish within {patience_s:g} s")


def _status(arguments: argparse.Namespace) -> int:
    from birthmark_agent import status_text
    from birthmark_agent.status import read_status

    status = read_status(_identities(arguments))
    _print(arguments, asdict(status), lambda: status_text.status_lines(status))
    return EX_OK if status.certificate is not None and not status.certificate.expired else EX_FOUND


def _trace(arguments: argparse.Namespace) -> int:
    from birthmark_agent import trace

    found = trace.trace(_identities(arguments), server=arguments.server)
    _print(arguments, found.as_json(), found.lines)
    return EX_OK if found.ok else EX_FOUND


def _doctor(arguments: argparse.Namespace) -> int:
    from birthmark_agent import doctor

    found = doctor.examine(_identities(arguments))
    _print(arguments, doctor.as_json(found), lambda: doctor.lines(found))
    return EX_OK if doctor.well(found) else EX_FOUND


def _print(arguments: argparse.Namespace, answer: dict[str, Any], lines: Callable[[], list[str]]) -> None:
    if arguments.json:
        print(json.dumps(answer, indent=2))
    else:
        print("\n".join(lines()))
