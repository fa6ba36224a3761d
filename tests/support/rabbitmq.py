"""A real RabbitMQ cluster: three nodes on 127.0.0.1, with a port mapper (epmd), a cookie and folders of their own.

    with running_cluster(folder, pki, auth_port=...) as cluster:
        cluster.nodes[0].mqtt_port, cluster.management, cluster.nodes[1].kill()

Everything is a child of this process and is ended by process id; nothing of it outlives the with block.
"""

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from birthmark_server.broker.rabbitmq_config import RabbitSettings, write_config
from birthmark_server.broker.trust_files import BUNDLE_FILE, TrustSet, pem
from support.broker_pki import BrokerPki
from support.ports import free_port

START_TIMEOUT_S = 120.0
_BIN = Path("/usr/lib/rabbitmq/bin")


@dataclass
class Node:
    """One node. Its ports and its folder stay the same over restarts."""

    name: str
    folder: Path
    settings: RabbitSettings
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    started: list[float] = field(default_factory=list)

    @property
    def mqtt_port(self) -> int:
        """Of its mutual-TLS listener."""
        return self.settings.mqtt_port

    @property
    def log(self) -> str:
        """What it said so far."""
        return (self.folder / "stdout").read_text(errors="replace")

    def start(self) -> None:
        """Begin to start."""
        with (self.folder / "stdout").open("ab") as log:
            self.process = subprocess.Popen(
                [_BIN / "rabbitmq-server"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Return when it takes MQTT connections. Raise RuntimeError with its log where it does not."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (_listens(self.mqtt_port) and _listens(self.settings.management_port)):
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start:\n{self.log[-6000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End it as a power cut would, with what it started."""
        if self.process is None:
            return
        process, self.process = self.process, None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its own session: start_new_session
        process.wait()


@dataclass
class Cluster:
    """The nodes, the management user's password, and the folder of what they trust."""

    nodes: list[Node]
    password: str
    trust_folder: Path


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running_cluster(
    folder: Path, pki: BrokerPki, *, auth_port: int, size: int = 3, roots: Sequence[x509.Certificate] = ()
) -> Iterator[Cluster]:
    """Run `size` nodes in `folder`. auth_port: where 127.0.0.1 answers rabbitmq_auth_backend_http. roots: what they
    trust besides those of `pki`."""
    leaf, password, epmd_port = pki.broker(), secrets.token_urlsafe(24), free_port()
    (folder / ".erlang.cookie").write_text(secrets.token_hex(20))
    (folder / ".erlang.cookie").chmod(0o400)
    trust = TrustSet((pki.root.certificate,), (pki.fleet.certificate,), (pki.infra.certificate,))
    trust.install(folder)
    bundle = folder / "nodes-ca.pem"
    bundle.write_bytes((folder / BUNDLE_FILE).read_bytes() + pem(roots))
    names = tuple(f"rabbit{number}@localhost" for number in range(1, size + 1))
    nodes = []
    for name in names:
        settings = RabbitSettings(
            folder=folder / name,
            certificate=leaf.chain,
            key=leaf.key,
            ca_bundle=bundle,
            crl_folder=folder / "crl",
            auth_url=f"http://127.0.0.1:{auth_port}/rabbitmq",
            nodes=names,
            address="127.0.0.1",
            mqtt_port=free_port(),
            amqp_port=free_port(),
            management_port=free_port(),
            management_password=password,
        )
        write_config(settings)
        nodes.append(Node(name, settings.folder, settings, _environment(folder, name, settings, epmd_port)))
    with ExitStack() as stack:
        epmd = subprocess.Popen(
            ["epmd", "-port", str(epmd_port), "-address", "127.0.0.1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(epmd.wait)
        stack.callback(epmd.kill)
        for node in nodes:
            stack.callback(node.kill)
        nodes[0].start()
        nodes[0].wait()
        for node in nodes[1:]:
            node.start()
        for node in nodes[1:]:
            node.wait()
        yield Cluster(nodes, password, folder)


def _environment(folder: Path, name: str, settings: RabbitSettings, epmd_port: int) -> dict[str, str]:
    own = settings.folder
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(epmd_port),
        "RABBITMQ_NODENAME": name,
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(settings.amqp_port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(own / "mnesia"),
        "RABBITMQ_LOG_BASE": str(own / "log"),
        "RABBITMQ_CONFIG_FILE": str(own / "rabbitmq"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(own / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / "enabled_plugins"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_PID_FILE": str(own / "pid"),
        # One scheduler that does not spin: three nodes and the tests share two cores.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none",
    }
