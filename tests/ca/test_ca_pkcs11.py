"""CA keys in a PKCS #11 token: SoftHSM2, through the same ceremonies as file keys."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from birthmark_server.ca.authority import Authority
from birthmark_server.ca.ceremony import demo_init
from birthmark_server.ca.errors import CeremonyRefused, KeyUnusable
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.pkcs11 import Pkcs11Signer, TokenUri
from birthmark_server.ca.requests import LDevIdRequest

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = b"1234567890"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NAMES = Namespace.checked(organization="Example", trust_domain="fleet.example")


def test_a_uri_is_read_and_written() -> None:
    text = "pkcs11:token=CA%20keys;object=fleet-2026?module-path=/usr/lib/x.so"
    uri = TokenUri.parse(text)
    assert uri == TokenUri("CA keys", "/usr/lib/x.so", "fleet-2026")
    assert uri.text() == text
    assert uri.with_object("birth").object == "birth"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pkcs11:",
        "file:x",
        "pkcs11:token=a",
        "pkcs11:token=a;token=b?module-path=/x",
        "pkcs11:token=a?module-path=",
        "pkcs11:token=a?module-path=/x&pin-value=1234",
        "pkcs11:serial=1;token=a?module-path=/x",
    ],
)
def test_a_uri_that_we_would_read_in_part_is_refused(text: str) -> None:
    with pytest.raises(KeyUnusable):
        TokenUri.parse(text)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A fresh SoftHSM2 token of this test run's own. The module reads its configuration once, when it is loaded."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    program = shutil.which("softhsm2-util")
    assert program is not None, "Debian's softhsm2 is missing"
    command = [
        program,
        "--init-token",
        "--free",
        "--label",
        "ca keys",
        "--so-pin",
        "so-pin-1234",
        "--pin",
        PIN.decode(),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    yield TokenUri("ca keys", MODULE).text()
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.mark.parts
@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=lambda curve: curve.name)
def test_a_token_makes_keys_that_sign_and_never_leave(token: str, curve: ec.EllipticCurve) -> None:
    uri = TokenUri.parse(token).with_object(f"key-{curve.name}")
    made = Pkcs11Signer.create(uri, curve=curve, pin=PIN)
    opened = Pkcs11Signer.open(uri, pin=PIN)
    assert opened.public_key() == made.public_key()
    algorithm = hashes.SHA256() if curve.key_size == 256 else hashes.SHA384()
    for signer in (made, opened):
        signer.public_key().verify(signer.sign(b"data"), b"data", ec.ECDSA(algorithm))
    with pytest.raises(CeremonyRefused, match="already"):
        Pkcs11Signer.create(uri, curve=curve, pin=PIN)
    assert _exportable(uri) == []


def _exportable(uri: TokenUri) -> list[str]:
    """Which of the attributes that would let a private key out are set."""
    import pkcs11

    session = pkcs11.lib(uri.module_path).get_token(token_label=uri.token).open()
    key = session.get_key(pkcs11.ObjectClass.PRIVATE_KEY, label=uri.object)
    wrong = []
    if key[pkcs11.Attribute.EXTRACTABLE]:
        wrong.append("extractable")
    if not key[pkcs11.Attribute.SENSITIVE]:
        wrong.append("not sensitive")
    if not key[pkcs11.Attribute.NEVER_EXTRACTABLE]:
        wrong.append("was extractable once")
    session.close()
    return wrong


@pytest.mark.parts
def test_a_whole_installation_with_its_keys_in_a_token(token: str, tmp_path: Path) -> None:
    authority = demo_init(folder=tmp_path / "ca", namespace=NAMES, passphrase=PIN, now=NOW, token=token)
    assert not list((tmp_path / "ca").rglob("*.key"))
    request = LDevIdRequest(authority.root.certificate.public_key(), "device-1", tpm_backed=True)
    certificate = authority.fleet.issue(authority.fleet.prepare(request, now=NOW))
    certificate.verify_directly_issued_by(authority.fleet.certificate)
    again = demo_init(folder=tmp_path / "ca", namespace=NAMES, passphrase=PIN, now=NOW, token=token)
    assert again.root.anchor_sha256 == authority.root.anchor_sha256


RESTART = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from birthmark_server.ca import passphrase
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.requests import LDevIdRequest
now = datetime(2026, 3, 1, 12, tzinfo=UTC)
authority = Authority.load(Path(sys.argv[1]), passphrase=passphrase.read("credential:pin"), now=now)
request = LDevIdRequest(authority.root.certificate.public_key(), "device-1", True)
print(authority.fleet.issue(authority.fleet.prepare(request, now=now)).subject.rfc4514_string())
"""


def make_with_keys_in(token: str, folder: Path, *, label: str) -> None:
    """Make an installation whose issuing keys are in the token and whose root is elsewhere, in a process of its own:
    so nothing of its login is left in this one."""
    done = subprocess.run(
        [sys.executable, "-c", MAKE, str(folder), token, label, PIN.decode()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


MAKE = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from birthmark_server.ca.ceremony import authority_init, authority_complete
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.root_ceremony import root_init, root_sign
now, folder, token, label, pin = datetime(2026, 3, 1, 12, tzinfo=UTC), Path(sys.argv[1]), *sys.argv[2:]
names = Namespace.checked(organization="Example", trust_domain="fleet.example")
root, safe = folder.parent / "safe", b"a passphrase for the root"
root_init(folder=root, namespace=names, passphrase=safe, now=now)
made = authority_init(folder=folder, namespace=names, passphrase=pin.encode(), now=now, label=label, token=token)
signed = [
    root_sign(folder=root, request=path, kind=kind, out=root / f"{kind}.pem", passphrase=safe, now=now).certificate
    for kind, path in made.requests
]
authority_complete(folder=folder, root=root / "root.pem", root_crl=root / "root.crl", certificates=signed, now=now)
"""


@pytest.mark.parts
def test_a_service_whose_keys_are_in_a_token_restarts_unattended(token: str, tmp_path: Path) -> None:
    make_with_keys_in(token, tmp_path / "ca", label="lot-7")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "pin").write_bytes(PIN + b"\n")
    done = subprocess.run(
        [sys.executable, "-c", RESTART, str(tmp_path / "ca")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env={"SOFTHSM2_CONF": os.environ["SOFTHSM2_CONF"], "CREDENTIALS_DIRECTORY": str(credentials)},
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "CN=device-1,O=Example", "")


@pytest.mark.parts
@pytest.mark.parametrize(
    ("change", "pin", "why"),
    [
        ({"token": "no such token"}, PIN, "no token labelled"),
        ({"object": "no such key"}, PIN, "no key called"),
        ({"module_path": "/no/such/module.so"}, PIN, "module.so|cannot open"),
    ],
)
def test_a_token_that_does_not_fit_says_why(token: str, change: dict[str, str], pin: bytes, why: str) -> None:
    uri = TokenUri.parse(token)
    parts = {"token": uri.token, "module_path": uri.module_path, "object": "key", **change}
    with pytest.raises(KeyUnusable, match=why):
        Pkcs11Signer.open(TokenUri(**parts), pin=pin)


@pytest.mark.parts
def test_a_wrong_pin_opens_nothing(token: str, tmp_path: Path) -> None:
    """In a process of its own: logging in belongs to the process, and others here are logged in."""
    code = (
        "import sys; from birthmark_server.ca.pkcs11 import *\n"
        "try: Pkcs11Signer.open(TokenUri.parse(sys.argv[1]).with_object('key'), pin=b'0000')\n"
        "except KeyUnusable as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, token], capture_output=True, text=True, timeout=60, check=False)
    assert "refuses this PIN" in done.stdout


@pytest.mark.parts
def test_many_threads_share_one_token_key(token: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    uri = TokenUri.parse(token).with_object("shared")
    signer = Pkcs11Signer.create(uri, curve=ec.SECP256R1(), pin=PIN)
    with ThreadPoolExecutor(8) as pool:
        data = [str(n).encode() for n in range(64)]
        for each, signature in zip(data, pool.map(signer.sign, data), strict=True):
            signer.public_key().verify(signature, each, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parts
def test_an_installation_in_a_token_is_opened_for_verifying_without_it(token: str, tmp_path: Path) -> None:
    make_with_keys_in(token, tmp_path / "ca", label="lot-8")
    authority = Authority.load(tmp_path / "ca", passphrase=None, now=NOW)
    assert authority.fleet.name == "fleet-lot-8"
