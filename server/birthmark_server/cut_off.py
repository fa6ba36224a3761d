"""What was revoked in the database, off the broker too: the deny file first, then the gate's ear.

The database comes first: it decides (denials.py). The file is durable and signed, and the gate looks at it once a
second; the command that follows it makes a second into milliseconds, and may fail.
"""

import logging
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from birthmark_server.broker.denyfile import DenyList
from birthmark_server.broker.errors import BrokerNotTold, DenyFileMalformed
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.roots import anchors_pem
from birthmark_server.denials import ON_THE_BROKER, open_deny_file, write_denials
from birthmark_server.domain import CertificateRecord
from birthmark_server.errors import Misconfigured
from birthmark_server.presence import open_errand
from birthmark_server.settings import Settings
from birthmark_server.store.protocol import Store

_CONNECT_TIMEOUT_S = 2.0
_log = logging.getLogger(__name__)


class Teller(Protocol):
    """Has the brokers' ear: broker.shards.ShardedControl, started. Raises nothing."""

    def tell(self, denied: DenyList, *, devices: Collection[str], serials: Collection[str]) -> None: ...


def cut_off(
    settings: Settings,
    revoked: Iterable[CertificateRecord],
    *,
    denied_ids: Collection[str] = (),
    teller: Teller | None = None,
) -> None:
    """Deny these certificates, and the devices of these ids altogether.

    teller: a server's own connections to its brokers; without it connections are made for this alone. Raises
    BrokerNotTold, saying what to do, where the deny file is not set or can't be written. Call it last: what the
    database has decided stands either way.
    """
    serials = {record.serial_number for record in revoked if record.profile in ON_THE_BROKER}
    if not serials and not denied_ids:
        return
    if not settings.broker.deny_file:
        or_else = "" if denied_ids else ", or give it the next CRL"
        raise BrokerNotTold(f"the broker is not told: set [broker] deny_file{or_else}")
    try:
        denied = open_deny_file(settings.broker).add(devices=denied_ids, serials=serials)
    except (OSError, DenyFileMalformed, Misconfigured) as error:
        raise BrokerNotTold(
            f"the broker is not told: {settings.broker.deny_file}: {error}; mend that, then: birthmark broker sync"
        ) from None
    if teller is not None:
        teller.tell(denied, devices=denied_ids, serials=serials)
    elif settings.broker.kind == "rabbitmq":
        return  # the server beside each node looks at the list several times a second, and can make the CRLs
    elif settings.broker.control_certificate and settings.broker.control_key:
        _run_ahead(settings, denied, devices=denied_ids, serials=serials)


def let_back(
    settings: Settings, store: Store, device_id: str, *, authority: Callable[[], Authority], now: datetime
) -> None:
    """Take a device's id off the deny file, if it is there: the file is written anew, as the database has it. The gate
    sees it within a second or two.

    authority: opens the CA folder. Raises BrokerNotTold. Call it last, as cut_off.
    """
    if not settings.broker.deny_file:
        return  # then it was never told to shut the device out
    try:
        deny_file = open_deny_file(settings.broker)
        if device_id in deny_file.read().devices:
            write_denials(deny_file, store, authority(), now=now)
    except (OSError, DenyFileMalformed, Misconfigured) as error:
        raise BrokerNotTold(
            f"the broker still shuts {device_id} out: {settings.broker.deny_file}: {error}; mend that, then: "
            "birthmark broker sync"
        ) from None


class Messenger:
    """Tells the broker what was decided, for the desk (web/api/store_desk.py): returns an empty text, or why it could
    not. authority: opens the CA folder. teller: as cut_off's."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        authority: Callable[[], Authority],
        now: Callable[[], datetime],
        teller: Teller | None = None,
    ) -> None:
        self._teller = teller
        self._settings = settings
        self._store = store
        self._authority = authority
        self._now = now

    def cut_off(self, revoked: Iterable[CertificateRecord], device_ids: Collection[str] = ()) -> str:
        """As `cut_off`."""
        try:
            cut_off(self._settings, revoked, denied_ids=device_ids, teller=self._teller)
        except BrokerNotTold as error:
            return str(error)
        return ""

    def let_back(self, device_id: str) -> str:
        """As `let_back`."""
        try:
            let_back(self._settings, self._store, device_id, authority=self._authority, now=self._now())
        except BrokerNotTold as error:
            return str(error)
        return ""


def _run_ahead(settings: Settings, denied: DenyList, *, devices: Collection[str], serials: Collection[str]) -> None:
    try:
        errand = open_errand(settings.broker, anchors=partial(anchors_pem, Path(settings.ca.folder)))
    except Misconfigured as error:
        _log.warning("broker not told by command", extra={"fields": {"reason": str(error)}})
        return
    errand.start()
    try:
        if errand.wait_tried(_CONNECT_TIMEOUT_S):
            errand.tell(denied, devices=devices, serials=serials)
    finally:
        errand.stop()
