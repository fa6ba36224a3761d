"""`birthmark broker`: the MQTT broker's configuration, written from this installation's certificates."""

from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509

from birthmark_server.broker.mosquitto import MosquittoSettings, write_config
from birthmark_server.broker.trial import try_config
from birthmark_server.ca import oids
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.profile import CaKind
from birthmark_server.cli.output import Json, print_json, say
from birthmark_server.cli.workplace import now, workplace
from birthmark_server.cut_off import sync
from birthmark_server.errors import Misconfigured

app = typer.Typer(no_args_is_help=True, help="The MQTT broker: write Mosquitto's configuration, and try it.")

_SOURCE_PLUGIN = Path(__file__).resolve().parents[2] / "mosquitto_gate" / "build" / "birthmark_gate.so"
_INSTALLED_PLUGIN = Path("/usr/lib/birthmark/birthmark_gate.so")


@app.command()
def config(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where Mosquitto's files go.")],
    certificate: Annotated[
        Path | None, typer.Option(help="The broker's certificate with its CA's, PEM. [default: broker/broker.pem]")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Its key, PEM. [default: broker/broker.key]")] = None,
    gate: Annotated[
        Path | None, typer.Option(help="The gate plugin. [default: this checkout's, or /usr/lib/birthmark]")
    ] = None,
    address: Annotated[str, typer.Option(help="To listen on; empty for all.")] = "",
    user: Annotated[str, typer.Option(help="Whom Mosquitto becomes when it is started as root.")] = "mosquitto",
    crl: Annotated[list[Path] | None, typer.Option(help="A CRL of each Fleet and Infra CA, DER.")] = None,
    app_clients: Annotated[bool, typer.Option("--app-clients", help="Let client ids be ID.APP too.")] = False,
    trial: Annotated[bool, typer.Option(help="Start Mosquitto with it once, and say what it does not like.")] = True,
    as_json: Json = False,
) -> None:
    """Write mosquitto.conf and the files beside it: CA bundles, OpenSSL's settings, the deny file.

    Plain Mosquitto can't tell a device's certificate from a station's, nor keep one device from another's session; the
    gate plugin does (docs/broker.md). Nothing is copied that is secret: the key stays where it is.

    Example:  birthmark broker config /etc/mosquitto/birthmark --address 0.0.0.0
    """
    place = workplace(context)
    values = place.settings()
    home = place.config_path.resolve().parent
    authority = Authority.load(Path(values.ca.folder), passphrase=None, now=now())
    wanted = MosquittoSettings(
        folder=folder.absolute(),
        plugin=(gate or (_SOURCE_PLUGIN if _SOURCE_PLUGIN.exists() else _INSTALLED_PLUGIN)).absolute(),
        certificate=(certificate or home / "broker" / "broker.pem").absolute(),
        key=(key or home / "broker" / "broker.key").absolute(),
        trust_domain=authority.namespace.trust_domain,
        control_eku=oids.KP_CONTROL.dotted_string,
        roots=(authority.root,),
        fleet=_of_kind(authority, CaKind.FLEET),
        infra=_of_kind(authority, CaKind.INFRA),
        crls=tuple(path.read_bytes() for path in crl or ()),
        address=address,
        port=values.broker.port,
        user=user,
        app_clients=app_clients,
    )
    written = write_config(wanted)
    version = try_config(wanted) if trial else ""
    start = [*(f"{name}={value}" for name, value in written.environment.items()), "mosquitto", "-c", str(written.conf)]
    if as_json:
        print_json(
            {
                "conf": str(written.conf),
                "deny_file": str(written.deny_file),
                "environment": written.environment,
                "mosquitto_version": version,
            }
        )
        return
    say(f"{written.conf} is written" + (f", and Mosquitto {version} starts with it" if version else ""))
    say(f"start it with: {' '.join(start)}")
    if not values.broker.deny_file:
        say(f'so that revocations reach it at once, set in [broker]: deny_file = "{written.deny_file}"')


@app.command("sync")
def sync_deny_file(context: typer.Context, as_json: Json = False) -> None:
    """Write the gate's deny file anew, exactly as the database has it: after a restore, or when it is damaged.

    Example:  birthmark broker sync
    """
    place = workplace(context)
    values = place.settings()
    if not values.broker.deny_file:
        raise Misconfigured("[broker] deny_file is not set: `birthmark broker config` says where the file is")
    authority = Authority.load(Path(values.ca.folder), passphrase=None, now=now())
    with place.store() as store:
        denied = sync(values, store, authority, now=now())
    if as_json:
        print_json({"version": denied.version, "devices": len(denied.devices), "serials": len(denied.serials)})
        return
    say(f"deny list version {denied.version}: {len(denied.devices)} devices, {len(denied.serials)} certificates")


def _of_kind(authority: Authority, kind: CaKind) -> tuple[x509.Certificate, ...]:
    return tuple(issuer.certificate for issuer in authority.issuers if issuer.kind is kind)
