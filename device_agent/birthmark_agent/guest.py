"""A short visit to the broker as this device, for `trace` and `doctor`: it leaves no trace in the session.

No message that waits for the device is acknowledged, and no will is left. The client id is the device's own, though:
the broker would hand a running agent's session over. So: only while no agent runs.
"""

import ssl

from birthmark_agent.identity import Identities
from birthmark_agent.mqtt import Session, wait_live
from birthmark_agent.slots import Identity

ANSWER_WITHIN_S = 10.0


def guest_session(identities: Identities, identity: Identity, context: ssl.SSLContext) -> Session:
    """Return a session that is not open yet; open it with will=False, close it with announce=False."""
    settings = identities.settings
    device_id, host, port = identities.broker_of(identity)
    return Session(
        device_id=device_id,
        host=host,
        port=port,
        context=context,
        keepalive_s=settings.broker.keepalive_s,
        session_expiry_s=settings.broker.session_expiry_s,
        connect_timeout_s=settings.server.timeout_s,
        on_message=lambda *_: None,
        acknowledge=False,
    )


def knock(identities: Identities, identity: Identity) -> str:
    """Connect up to CONNACK and SUBACK, and leave; return where. Raise the AgentError that it failed with."""
    session = guest_session(identities, identity, identities.operational_context(identity))
    try:
        session.open(will=False)
        wait_live(session, timeout_s=ANSWER_WITHIN_S)
    finally:
        session.close(announce=False)
    return session.where
