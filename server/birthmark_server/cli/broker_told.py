"""What a revocation's answer says of the broker, as the end of a command."""

from birthmark_server.broker.errors import BrokerNotTold


def require_told(broker: str) -> None:
    """Raise BrokerNotTold where the answer says why the broker was not told. Call it last: the revocation stands."""
    if broker:
        raise BrokerNotTold(broker)
