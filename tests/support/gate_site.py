"""A PKI, a broker with the gate, and clients that try things on it."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from support.broker_pki import BrokerPki, Leaf
from support.mosquitto import Broker, running_broker
from support.mqtt_client import Client, connected


class Site:
    """A PKI, its broker, and clients for both."""

    def __init__(self, pki: BrokerPki, broker: Broker) -> None:
        self.pki = pki
        self.broker = broker

    def client(self, leaf: Leaf | None, client_id: str, **more: Any) -> Client:
        """Return a client that shows `leaf`, not yet connected."""
        return Client(self.broker.port, self.pki.client_context(leaf), client_id, **more)

    def connected(self, leaf: Leaf, client_id: str, **more: Any) -> AbstractContextManager[Client]:
        """Run a client that must be let in."""
        return connected(self.broker.port, self.pki.client_context(leaf), client_id, **more)

    def refusal(self, leaf: Leaf | None, client_id: str, reason: str, **more: Any) -> str:
        """Check that this client is refused for `reason`, with one line in the log, and return the line."""
        before = len(self.broker.log())
        client = self.client(leaf, client_id, **more).connect()
        try:
            assert client.refused, f"{client_id} was let in"
            return self.broker.wait_log(f"refused connect: reason={reason} ", after=before)
        finally:
            client.close()


def open_site(pki: BrokerPki, folder: Path, **more: Any) -> AbstractContextManager[Broker]:
    """Run a broker of `pki` in `folder`. more: of running_broker()."""
    leaf = pki.broker()
    return running_broker(
        folder,
        **{
            "certificate": leaf.chain,
            "key": leaf.key,
            "roots": [pki.root.certificate],
            "fleet": [pki.fleet.certificate],
            "infra": [pki.infra.certificate],
            "trust_domain": pki.trust_domain,
            "signer": pki.deny_signer,
            **more,
        },
    )
