"""How a device is, and what happens next: a function of its record, its certificate and the time."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from birthmark_server.domain import Device, DeviceState
from birthmark_server.fleet import OVERDUE_AT, NextAction, OperationalCertificate

RENEWS_AT: Final = 2 / 3
"""At which part of a certificate's life an agent with the usual settings renews it, 5 % of it earlier or later."""

_OPERATOR_ACTS: Final = {DeviceState.REVOKED: NextAction.READMIT, DeviceState.QUARANTINED: NextAction.RESTORE}


@dataclass(frozen=True, slots=True)
class Outlook:
    """next_action, from when on (None: now, or never), and how many whole days the certificate has left."""

    action: NextAction
    at: datetime | None
    days_left: int | None


def outlook(device: Device, certificate: OperationalCertificate | None, *, now: datetime) -> Outlook:
    """Return what comes next for `device`, whose operational certificate in use is `certificate`."""
    days_left = None if certificate is None else (certificate.not_after - now).days
    if device.state is not DeviceState.ACTIVE:
        return Outlook(_OPERATOR_ACTS.get(device.state, NextAction.NONE), None, days_left)
    if certificate is None:
        return Outlook(NextAction.FIRST_CERTIFICATE, None, None)
    if certificate.not_after < now:
        return Outlook(NextAction.RECOVERY, certificate.not_after, days_left)
    life = certificate.not_after - certificate.not_before
    overdue = now > certificate.not_before + life * OVERDUE_AT.numerator / OVERDUE_AT.denominator
    return Outlook(
        NextAction.RENEWAL_DUE if overdue else NextAction.RENEWAL,
        certificate.not_before + RENEWS_AT * life,
        days_left,
    )
