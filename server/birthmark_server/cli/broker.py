"""`birthmark broker`: the MQTT broker's configuration, written from this installation's certificates."""

from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from birthmark_server.broker.control import merge_health
from birthmark_server.broker.mosquitto import MosquittoSettings, write_config
from birthmark_server.broker.shards import ShardHealth
from birthmark_server.broker.trial import try_config
from birthmark_server.ca import oids
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.profile import CaKind
from birthmark_server.ca.roots import anchors_pem
from birthmark_server.cli import broker_rabbitmq
from birthmark_server.cli.broker_files import lacking, of_kind, write_deny_list
from birthmark_server.cli.output import Json, print_json, say, show_fields
from birthmark_server.cli.workplace import believed_authority, now, workplace
from birthmark_server.denials import open_deny_file, write_denials
from birthmark_server.errors import Misconfigured
from birthmark_server.presence import open_errand
from birthmark_server.settings import Settings, ShardSettings

app = typer.Typer(no_args_is_help=True, help="The MQTT broker: write its configuration, and look at it.")
app.command("config-rabbitmq")(broker_rabbitmq.config)

_TIMEOUT_S = 5.0
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
    shard: Annotated[str, typer.Option(help="Which of several brokers it is: its name in [[broker.shards]].")] = "",
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
    """Write mosquitto.conf and the files beside it: CA bundles, OpenSSL's settings, and the signed deny list.

    Plain Mosquitto can't tell a device's certificate from a station's, nor keep one device from another's session; the
    gate plugin does (docs/broker.md). Nothing is copied that is secret: the key stays where it is.

    Example:  birthmark broker config /etc/mosquitto/birthmark --address 0.0.0.0
    """
    place = workplace(context)
    values = place.settings()
    if values.broker.kind != "mosquitto":
        raise Misconfigured('[broker] kind is "rabbitmq": birthmark broker config-rabbitmq writes its configuration')
    home = place.config_path.resolve().parent
    one = _shard(values, shard)
    with place.store() as store:
        authority = believed_authority(values, store.authorities)
    wanted = MosquittoSettings(
        folder=folder.absolute(),
        plugin=(gate or (_SOURCE_PLUGIN if _SOURCE_PLUGIN.exists() else _INSTALLED_PLUGIN)).absolute(),
        certificate=(certificate or home / "broker" / "broker.pem").absolute(),
        key=(key or home / "broker" / "broker.key").absolute(),
        trust_domain=authority.namespace.trust_domain,
        control_eku=oids.KP_CONTROL.dotted_string,
        deny_eku=oids.KP_DENY_LIST.dotted_string,
        roots=tuple(root.certificate for root in authority.in_force.roots),
        fleet=of_kind(authority, CaKind.FLEET),
        infra=of_kind(authority, CaKind.INFRA),
        crls=tuple(path.read_bytes() for path in crl or ()),
        address=address,
        port=one.port,
        user=user,
        app_clients=app_clients,
    )
    written = write_config(wanted)
    write_deny_list(place, authority, written.deny_file)
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
    for what in lacking(authority, wanted.certificate):
        say(f"{wanted.certificate} lacks {what}: devices that need it will not trust this broker; issue it anew")
    if shard and not one.deny_file:
        say(f'set for {shard} in [[broker.shards]]: deny_file = "{written.deny_file}", or have it carried there')
    if not values.broker.deny_file:
        say(f'set in [broker]: deny_file = "{written.deny_file}", or the broker lets nobody in once its lease is over')


@app.command("sync")
def sync_deny_file(context: typer.Context, as_json: Json = False) -> None:
    """Write the gate's deny file anew, exactly as the database has it: after a restore, or when it is damaged.

    Example:  birthmark broker sync
    """
    place = workplace(context)
    values = place.settings()
    deny_file = open_deny_file(values.broker)
    authority = Authority.load(Path(values.ca.folder), passphrase=None, now=now())
    with place.store() as store:
        denied = write_denials(deny_file, store, authority, now=now())
    if as_json:
        print_json({"version": denied.version, "devices": len(denied.devices), "serials": len(denied.serials)})
        return
    say(f"deny list version {denied.version}: {len(denied.devices)} devices, {len(denied.serials)} certificates")


@app.command()
def status(context: typer.Context, as_json: Json = False) -> None:
    """Show the deny list on the disk, its lease, and what the gate of each broker makes of it; or RabbitMQ's nodes.

    Ends with 1 where one of them lets nobody new in, or can't be asked.

    Example:  birthmark broker status
    """
    values = workplace(context).settings()
    denied = open_deny_file(values.broker).read()
    seen = _ask_gates(values)
    problems = [(one.shard.name, one.problem) for one in seen if one.problem]
    until = datetime.fromtimestamp(denied.lease.until_s, UTC)
    if as_json:
        disk = {"version": denied.version, "entries": len(denied.entries), "lease_until": until.isoformat()}
        brokers = [
            {
                "name": one.shard.name,
                "endpoint": str(one.shard.endpoint),
                "drain": one.shard.drain,
                "gate": None if one.health is None else asdict(one.health),
                "problem": one.problem,
            }
            for one in seen
        ]
        answered = [one.health for one in seen if one.health is not None]
        silent = [one.shard.name for one in seen if one.health is None]
        together = asdict(merge_health(answered, unreachable=silent)) if answered else None
        problem = problems[0][1] if problems else ""
        print_json({"list": disk, "gate": together, "problem": problem, "brokers": brokers})
    else:
        on_disk = f"version {denied.version}, {len(denied.entries)} entries, lease until {until:%Y-%m-%d %H:%M:%S}Z"
        word = "gate" if values.broker.kind == "mosquitto" else "rabbitmq"
        gates = [(word if not values.broker.shards else f"gate {one.shard.name}", _in_force(one)) for one in seen]
        show_fields([("deny file", on_disk), *gates])
    for name, problem in problems:
        say(f"{name}: {problem}" if values.broker.shards else problem)
    if problems:
        raise typer.Exit(1)


def _ask_gates(values: Settings) -> list[ShardHealth]:
    """Return how each broker is."""
    if values.broker.kind == "rabbitmq":
        return [broker_rabbitmq.look(values)]
    errand = open_errand(values.broker, anchors=partial(anchors_pem, Path(values.ca.folder)))
    errand.start()
    try:
        errand.wait_tried(_TIMEOUT_S)
        return errand.each_health()
    finally:
        errand.stop()


def _in_force(one: ShardHealth) -> str:
    where = f" at {one.shard.endpoint}{', drained' if one.shard.drain else ''}"
    if one.health is None:
        return f"can't be asked{where}"
    text = f"version {one.health.deny_version}, lease {one.health.lease_s} s"
    return f"{text}, {one.health.connected} of {one.health.capacity} connected{where}"


def _shard(values: Settings, name: str) -> ShardSettings:
    """Return the settings of one broker; the only one where `name` is empty. Raise Misconfigured."""
    if not name and not values.broker.shards:
        return values.broker.every[0]
    found = next((one for one in values.broker.shards if one.name == name), None)
    if found is None:
        known = ", ".join(one.name for one in values.broker.shards) or "none"
        raise Misconfigured(f"--shard: want a name in [[broker.shards]] ({known}), got {name!r}")
    return found
