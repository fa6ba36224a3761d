"""docs/protocol.md says what the code does: its marked blocks are drawn from it.

`PYTHONPATH=tests python tests/core/test_protocol_doc.py` from the root of the repository draws them anew.
"""

import importlib
import json
import pkgutil
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

import birthmark_server
from birthmark_server.enrollment_states import TRANSITIONS, Event, State
from birthmark_server.errors import BirthmarkError, Busy, Malformed, Refused
from birthmark_server.web.csrattrs import csr_attributes
from birthmark_server.web.doors import BORN, Door
from birthmark_server.web.problems import status_of
from birthmark_wire import topics, tpm_templates
from birthmark_wire.binding import enrollment_binding, renewal_binding
from birthmark_wire.encoding import unb64
from birthmark_wire.enrollment import (
    Attestation,
    Challenge,
    ChallengeAnswer,
    EnrollRequest,
    EnrollResult,
)
from birthmark_wire.est import BASE_PATH
from birthmark_wire.jws import signing_input
from birthmark_wire.rotation import (
    COMMAND_PURPOSE,
    COMMAND_TYPE,
    Ack,
    AckState,
    Action,
    Active,
    Command,
    Hello,
    JobAnswer,
    JobNonce,
    JobRequest,
)
from birthmark_wire.time import SERVER_PURPOSE, TimeAnswer, TimeQuestion
from birthmark_wire.trust import BundleIssuer, IssuerKind, TrustAck, TrustBundle
from support.routes import every_route

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"
MARKED = re.compile(r"<!-- ([a-z-]+) -->.*?<!-- /\1 -->", re.DOTALL)
ELSEWHERE = (
    "birthmark_server.broker",
    "birthmark_server.ca.signer",
    "birthmark_server.cli",
    "birthmark_server.factory.image",
    "birthmark_server.rotation",
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def code_block(text: str, kind: str = "") -> str:
    return f"```{kind}\n{text}\n```"


def folded(hexadecimal: str) -> str:
    return "\n  ".join(hexadecimal[i : i + 96] for i in range(0, len(hexadecimal), 96))


def doors() -> str:
    """Every route with who may use it, read off the very lists that the server is made of."""
    return table(["", "path", "who"], [(r.method, f"`{r.path}`", who(r.door)) for r in every_route()])


def who(door: Door) -> str:
    if door.ignore_certificate:
        return "everybody"
    welcome = ["without a certificate"] if door.anonymous else []
    return ", ".join(welcome + sorted(f"`{profile.value}`" for profile in door.profiles))


def templates() -> str:
    named = {
        "EK, `rsa2048`": tpm_templates.EK_RSA2048,
        "EK, `p256`": tpm_templates.EK_P256,
        "EK, `p384`": tpm_templates.EK_P384,
        "AK": tpm_templates.AK,
        "birth key": tpm_templates.BIRTH_KEY,
        "storage root key": tpm_templates.STORAGE_KEY,
        "operational key": tpm_templates.OPERATIONAL_KEY,
    }
    return code_block("\n".join(f"{name}\n  {folded(data.hex())}" for name, data in named.items()).replace("`", ""))


def nv_indices() -> str:
    return ", ".join(f"{name} 0x{index:08X}" for name, index in tpm_templates.EK_CERTIFICATE_NV.items())


def shown(message: bytes) -> str:
    return code_block(json.dumps(json.loads(message), indent=1), "json")


REQUEST = EnrollRequest(
    "enroll.example", (b"DER",), (b"DER",), b"TPMT_PUBLIC", b"TPMT_PUBLIC", b"TPMT_PUBLIC", "agent/1"
)
CHALLENGE = Challenge(
    "mKCwOHLIJ-4e0reyMhZy4w", bytes(range(32)), b"blob", b"secret", (0, 7), "dev-1", "SN-1", "model-a", "", 300
)
STATEMENT = Attestation(b"TPMS_ATTEST", b"TPMT_SIGNATURE")
ANSWER = ChallengeAnswer(bytes(range(32, 64)), b"PKCS #10", STATEMENT, STATEMENT)
RESULT = EnrollResult(
    "dev-1",
    (b"IDevID", b"CA"),
    (b"root",),
    "fleet.example",
    f"https://enroll.example:8443{BASE_PATH}",
    "broker.example",
    8883,
)


QUESTION = TimeQuestion(bytes(range(32)))
TIME = TimeAnswer(datetime(2026, 1, 31, 12, 0, tzinfo=UTC), (b"server", b"CA"), b"ECDSA")


def enrollment_q() -> str:
    q = enrollment_binding(
        enrollment_id="mKCwOHLIJ-4e0reyMhZy4w",
        nonce=bytes(range(32)),
        secret=bytes(range(32, 64)),
        ek_sha256=b"\x11" * 32,
        ak_name=b"\x00\x0b" + b"\x22" * 32,
        key_name=b"\x00\x0b" + b"\x33" * 32,
        serial="SN-1",
        model="model-a",
        batch="",
        csr_sha256=b"\x44" * 32,
        anchor_sha256=b"\x55" * 32,
        server_name="enroll.example",
    )
    return code_block(
        "enrollment_id mKCwOHLIJ-4e0reyMhZy4w, SHA-256(EK) 11*32, Name(AK) 000b 22*32, Name(birth key) 000b 33*32,\n"
        'serial SN-1, model model-a, batch "", SHA-256(csr) 44*32, SHA-256(root) 55*32, server_name enroll.example\n'
        f"Q = {q.hex()}"
    )


def renewal_q() -> str:
    q = renewal_binding(
        nonce=bytes(range(32)),
        device_id="dev-1",
        client_certificate_sha256=b"\x11" * 32,
        spki=b"\x30\x00",
        subject=b"\x30\x00",
        subject_alt_name=b"",
        job_id="",
    )
    return code_block(
        "device_id dev-1, SHA-256(certificate) 11*32, SubjectPublicKeyInfo 3000, subject 3000,\n"
        'subjectAltName "", job id ""\n'
        f"Q = {q.hex()}"
    )


COMMAND = Command(
    Action.ROTATE,
    "dev-1",
    "5d0c9f7a1e3b4c55",
    7,
    datetime(2026, 11, 27, 22, 0, 0, tzinfo=UTC),
    datetime(2026, 11, 28, 22, 0, 0, tzinfo=UTC),
)
JOB = COMMAND.job_id
TRUST = TrustBundle(
    version=3,
    issued_at=datetime(2026, 11, 28, 1, 0, 0, tzinfo=UTC),
    roots=(b"new root", b"old root"),
    links=(b"NewWithOld", b"OldWithNew"),
    issuers=(BundleIssuer(IssuerKind.FLEET, b"Fleet CA"), BundleIssuer(IssuerKind.INFRA, b"Infra CA")),
)


def jws_header() -> str:
    header, _payload = signing_input(b"", message_type=COMMAND_TYPE, chain=(b"leaf", b"CA")).decode().split(".")
    return shown(unb64(header, field="header"))


def mqtt_topics() -> str:
    up = ", ".join(f"`{leaf}`" for leaf in topics.UP)
    down = ", ".join(f"`{leaf}`" for leaf in topics.DOWN)
    rows = [
        (f"`{topics.up('ID', '')}`", "from the device", up),
        (f"`{topics.down('ID', '')}`", "to the device", down),
        (f"`{topics.up('ID', topics.APPLICATIONS)}/NAME/`", "from an application", "its own (docs/agent.md)"),
        (f"`{topics.down('ID', topics.APPLICATIONS)}/NAME/`", "to an application", "its own"),
        (f"`{topics.SERVER_SUBSCRIPTION}`", "what the server hears", "all replicas share it"),
    ]
    return table(["topic", "", ""], rows)


def states() -> str:
    lines = ["stateDiagram-v2", f"    [*] --> {State.CHALLENGED.value}: begun"]
    for (before, event), after in TRANSITIONS.items():
        lines.append(f"    {before.value} --> {after.value}: {event.value}")
    return code_block("\n".join(lines), "mermaid")


def codes() -> str:
    """Every error that a door may answer with: what a client can be told."""
    for module in pkgutil.walk_packages(birthmark_server.__path__, "birthmark_server."):
        if not module.name.startswith(("birthmark_server.store.migrations", "birthmark_server.cli")):
            importlib.import_module(module.name)
    rows: set[tuple[int, str, str]] = set()
    pending: list[type[BirthmarkError]] = [Malformed, Refused, Busy]
    while pending:
        cls = pending.pop()
        pending += cls.__subclasses__()
        ours = cls.__module__.startswith("birthmark_server.") and not cls.__module__.startswith(ELSEWHERE)
        if ours and "code" in vars(cls) and cls.__doc__:
            error = cls("x", retry_after_s=1) if issubclass(cls, Busy) else cls("x")
            rows.add((status_of(error)[0], cls.code, " ".join(cls.__doc__.split())))
    return table(
        ["status", "code", "meaning"], [(str(status), f"`{code}`", said) for status, code, said in sorted(rows)]
    )


BLOCKS: dict[str, Callable[[], str]] = {
    "doors": lambda: f"\n{doors()}\n",
    "templates": lambda: f"\n{templates()}\n",
    "nv": nv_indices,
    "request": lambda: f"\n{shown(REQUEST.encode())}\n",
    "challenge": lambda: f"\n{shown(CHALLENGE.encode())}\n",
    "answer": lambda: f"\n{shown(ANSWER.encode())}\n",
    "result": lambda: f"\n{shown(RESULT.encode())}\n",
    "enrollment-q": lambda: f"\n{enrollment_q()}\n",
    "renewal-q": lambda: f"\n{renewal_q()}\n",
    "time": lambda: f"\n{shown(QUESTION.encode())}\n{shown(TIME.encode())}\n",
    "topics": lambda: f"\n{mqtt_topics()}\n",
    "jws-header": lambda: f"\n{jws_header()}\n",
    "command": lambda: f"\n{shown(COMMAND.encode())}\n",
    "kp-command": lambda: f"`{COMMAND_PURPOSE}`",
    "ack": lambda: f"\n{shown(Ack(JOB, AckState.LATER, 'storage-failed', 'the disk is full', 60).encode())}\n",
    "job-nonce": lambda: f"\n{shown(JobNonce(JOB, bytes(range(32)), 300).encode())}\n",
    "job-request": lambda: f"\n{shown(JobRequest(JOB, '4f9a01', b'PKCS #10').encode())}\n",
    "job-answer": lambda: f"\n{shown(JobAnswer(JOB, (b'LDevID', b'CA')).encode())}\n",
    "active": lambda: f"\n{shown(Active('4f9a02', JOB).encode())}\n",
    "hello": lambda: f"\n{shown(Hello('agent/1', '4f9a01', COMMAND.expires_at, JOB, 7).encode())}\n",
    "trust-bundle": lambda: f"\n{shown(TRUST.encode())}\n",
    "trust-ack": lambda: f"\n{shown(TrustAck(2, 'trust-unlinked', 'no link leads to a root').encode())}\n",
    "csrattrs": lambda: f"\n{code_block(csr_attributes().hex())}\n",
    "states": lambda: f"\n{states()}\n",
    "codes": lambda: f"\n{codes()}\n",
}


def drawn(text: str) -> str:
    """The document with its blocks drawn anew."""
    return MARKED.sub(lambda m: f"<!-- {m[1]} -->{BLOCKS[m[1]]()}<!-- /{m[1]} -->", text)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_block_is_as_the_code_is(block: str) -> None:
    found = {m[1]: m[0] for m in MARKED.finditer(DOCUMENT.read_text())}
    assert found[block] == f"<!-- {block} -->{BLOCKS[block]()}<!-- /{block} -->", (
        "PYTHONPATH=tests python tests/core/test_protocol_doc.py draws it anew"
    )


def test_every_state_and_event_is_in_the_diagram() -> None:
    assert {state for state, _ in TRANSITIONS} | set(TRANSITIONS.values()) == set(State)
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_the_purpose_of_who_signs_the_time_is_the_codes() -> None:
    assert f"(`{SERVER_PURPOSE}`)" in DOCUMENT.read_text()


def test_the_birth_certificate_opens_one_post_and_the_nonce() -> None:
    posts = [route.path for route in every_route() if route.method == "POST" and route.door == BORN]
    assert posts == [f"{BASE_PATH}/simpleenroll"]


if __name__ == "__main__":
    DOCUMENT.write_text(drawn(DOCUMENT.read_text()))
