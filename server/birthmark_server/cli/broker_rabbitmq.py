"""`birthmark broker` for a RabbitMQ cluster: the configuration of its node on this machine, and how the cluster is."""

import http.client
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer
from cryptography import x509

from birthmark_server.broker.assignment import Shard
from birthmark_server.broker.rabbitmq import RabbitControl
from birthmark_server.broker.rabbitmq_config import STATISTICS_MS, RabbitSettings, write_config
from birthmark_server.broker.rabbitmq_door import RabbitDoor
from birthmark_server.broker.rabbitmq_http import PATH
from birthmark_server.broker.rabbitmq_live import crl_folder, look_at, trust_folder
from birthmark_server.broker.shards import ShardHealth
from birthmark_server.broker.trust_files import BUNDLE_FILE, TrustSet
from birthmark_server.ca import passphrase
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.profile import CaKind
from birthmark_server.cli.broker_files import lacking, of_kind, write_deny_list
from birthmark_server.cli.output import Json, print_json, say
from birthmark_server.cli.workplace import believed_authority, now, workplace
from birthmark_server.denials import open_deny_file
from birthmark_server.presence import door_endpoint, management_api
from birthmark_server.settings import Settings
from birthmark_wire.broker import BrokerEndpoint

_TIMEOUT_S: Final = 5.0


def config(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where the node's files go.")],
    certificate: Annotated[
        Path | None, typer.Option(help="The broker's certificate with its CA's, PEM. [default: broker/broker.pem]")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Its key, PEM. [default: broker/broker.key]")] = None,
    address: Annotated[str, typer.Option(help="Where devices come to: an address of this machine.")] = "0.0.0.0",  # noqa: S104 - the one door that leads outside
    as_json: Json = False,
) -> None:
    """Write rabbitmq.conf and the files beside it, for the node of a RabbitMQ cluster on this machine.

    From [broker] and [broker.rabbitmq]: plugins, TLS by CRLs, the door that the node asks, the CA bundle and the deny
    list. The CRLs come from the server, once it runs. rabbitmq.conf holds the management password: only its owner may
    read it.

    Example:  birthmark broker config-rabbitmq /etc/rabbitmq/birthmark
    """
    place = workplace(context)
    values = place.settings()
    broker, home, folder = values.broker, place.config_path.resolve().parent, folder.absolute()
    with place.store() as store:
        authority = believed_authority(values, store.authorities)
    password = passphrase.read(broker.rabbitmq.management_password).decode()
    trust = TrustSet.checked(
        roots=[root.certificate for root in authority.in_force.roots],
        fleet=of_kind(authority, CaKind.FLEET),
        infra=of_kind(authority, CaKind.INFRA),
    )
    deny_file = folder / "deny"
    wanted = RabbitSettings(
        folder=folder,
        certificate=(certificate or home / "broker" / "broker.pem").absolute(),
        key=(key or home / "broker" / "broker.key").absolute(),
        ca_bundle=folder / BUNDLE_FILE,
        crl_folder=folder / "crl",
        auth_url=f"http://{broker.rabbitmq.door}{PATH.rstrip('/')}",
        nodes=tuple(broker.rabbitmq.nodes),
        address=address,
        mqtt_port=broker.port,
        amqp_port=broker.rabbitmq.amqp_port,
        management_port=urlsplit(broker.rabbitmq.management[0]).port or 0,
        management_password=password,
    )
    write_config(wanted)
    wanted.crl_folder.mkdir(mode=0o755, exist_ok=True)
    trust.install(folder)
    write_deny_list(place, authority, deny_file)
    environment = {
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
    }
    if as_json:
        print_json({"conf": str(folder / "rabbitmq.conf"), "deny_file": str(deny_file), "environment": environment})
        return
    say(f"{folder / 'rabbitmq.conf'} is written; chown it to RabbitMQ's user: it holds the management password")
    say("in /etc/rabbitmq/rabbitmq-env.conf: " + " ".join(f"{name}={value}" for name, value in environment.items()))
    for what in lacking(authority, wanted.certificate):
        say(f"{wanted.certificate} lacks {what}: devices that need it will not trust this broker; issue it anew")
    if broker.deny_file != str(deny_file):
        say(f'set in [broker]: deny_file = "{deny_file}", or the server does not find these files')
    if broker.kind != "rabbitmq":
        say('set in [broker]: kind = "rabbitmq"')


class _NoRecords:
    """broker.rabbitmq.Records for who only counts connections. CRLs are the running server's to write, never the
    command line's: asked for here, they would be a defect, which must show."""

    def serial_of(self, device_id: str, not_before: datetime, not_after: datetime) -> str:  # noqa: ARG002
        return ""

    def device_of(self, serial: str) -> str:  # noqa: ARG002
        return ""

    def write_crls(self, fleet: Sequence[x509.Certificate]) -> None:
        raise NotImplementedError("CRLs are written by `birthmark serve`")


def look(values: Settings) -> ShardHealth:
    """Return how the cluster is, and whether a server answers the node on this machine."""
    broker, deny_file = values.broker, open_deny_file(values.broker)
    trust_domain = Authority.load(Path(values.ca.folder), passphrase=None, now=now()).namespace.trust_domain
    control = RabbitControl(
        api=management_api(broker),
        door=RabbitDoor(trust_domain=trust_domain, deny_file=deny_file),
        deny_file=deny_file,
        records=_NoRecords(),
        trust_domain=trust_domain,
        trust_folder=trust_folder(deny_file),
        statistics_s=STATISTICS_MS / 1000,
    )
    seen = look_at(control, Shard("broker", BrokerEndpoint(broker.host, broker.port)))
    problems = [seen.problem, _crl_problem(crl_folder(deny_file)), _door_problem(*door_endpoint(broker))]
    return ShardHealth(seen.shard, seen.health, "; ".join(filter(None, problems)))


def _door_problem(host: str, port: int) -> str:
    """Ask as the node does, for nobody: no server of ours would let that in."""
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", f"{PATH}user", "username=")
        answer = connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        return f"no server answers the node's questions at {host}:{port}, so nobody new gets in there: {error}"
    finally:
        connection.close()
    return "" if answer == b"deny" else f"what answers at {host}:{port} is not this server: {answer[:40]!r}"


def _crl_problem(folder: Path) -> str:
    """Without a CRL that is in time TLS refuses all devices of a Fleet CA."""
    lists = [x509.load_pem_x509_crl(path.read_bytes()) for path in folder.glob("*.r[0-9]*")]
    late = [one.next_update_utc for one in lists if one.next_update_utc is None or one.next_update_utc <= now()]
    if not lists:
        return f"there is no CRL in {folder}, so nobody new gets in: a server that runs writes it"
    return f"{len(late)} of the CRLs in {folder} are over, so nobody new gets in" if late else ""
