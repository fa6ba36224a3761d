"""`birthmark device add-software`: a device without a TPM, whose key an operator vouches for."""

from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca import files
from birthmark_server.cli.output import say
from birthmark_server.cli.workplace import OperatorFile, workplace
from birthmark_server.errors import Malformed
from birthmark_server.roles import STEERING


def add_software(
    context: typer.Context,
    device_id: Annotated[str, typer.Argument(metavar="sw-NAME", help="Its id; it begins with sw-.")],
    csr: Annotated[Path, typer.Option(help="The device's certification request (PKCS #10), PEM or DER.")],
    out: Annotated[Path, typer.Option(help="Where its certificate and the Fleet CA's go, PEM; must not exist.")],
    model: Annotated[str, typer.Option(help="What it is, for lists.")] = "",
    operator: OperatorFile = None,
) -> None:
    """Put a device without a TPM on record and give it its first certificate.

    There is no proof of where its key lives: you vouch for it. From then on it renews itself by EST simplereenroll
    (curl, strongSwan: docs/protocol.md 5.2). If it let its certificate expire, run this again, with a request for a
    new key: each key is certified once.

    Example:  birthmark device add-software sw-gauge-7 --csr gauge-7.csr --out gauge-7.pem --operator alice.pem
    """
    # Only here: it brings the whole server along.
    from birthmark_server.services import open_services

    place = workplace(context)
    request = _read_request(csr)
    with place.store() as store:
        by = place.actor(store, operator, allowed=STEERING, what="adding devices without a TPM")
    services = open_services(place.settings())
    try:
        certificate = services.renewal.certify_software_device(
            device_id,
            request,
            model=model,
            operator=by,
        )
        fleet = services.authority.fleet.certificate
    finally:
        services.store.close()
    files.write_new(out, certificate.public_bytes(Encoding.PEM) + fleet.public_bytes(Encoding.PEM))
    say(f"{device_id}: its certificate is in {out}, good until {certificate.not_valid_after_utc:%Y-%m-%d}")


def _read_request(path: Path) -> bytes:
    """Return a certification request as DER, whichever way it was written."""
    data = path.read_bytes()
    if not data.lstrip().startswith(b"-----"):
        return data
    try:
        return x509.load_pem_x509_csr(data).public_bytes(Encoding.DER)
    except ValueError as error:
        raise Malformed(f"{path}: want a certification request: {error}") from None
