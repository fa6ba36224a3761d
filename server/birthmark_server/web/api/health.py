"""How a device is, and what happens next: a function of its record, its certificate and the time."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from birthmark_server.domain import Device, DeviceState
from birthmark_server.fleet import OperationalCertificate

RENEWS_AT: Final = 2 / 3
"""At which part of a certificate's life an agent with the usual settings renews it, 5 % of it earlier or later."""

OVERDUE_AT: Final = 0.75
"""At which part every such agent has."""


class NextAction(StrEnum):
    """What comes next. Who acts: the agent by itself, unless it says operator."""

    NONE = "none"
    """It is out for good."""
    READMIT = "operator-readmits"
    """It is revoked: an operator readmits it, or leaves it."""
    RESTORE = "operator-restores"
    """It is in quarantine: an operator restores it, or revokes it."""
    FIRST_CERTIFICATE = "first-certificate"
    """It has its birth certificate, and fetches its first operational one."""
    RENEWAL = "renewal"
    """It renews its certificate at that time."""
    RENEWAL_DUE = "renewal-due"
    """It should have renewed its certificate by now: is it switched on?"""
    RECOVERY = "recovery"
    """Its certificate has expired: it comes back by its birth certificate when it is switched on."""


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
    overdue = now > certificate.not_before + OVERDUE_AT * life
    return Outlook(
        NextAction.RENEWAL_DUE if overdue else NextAction.RENEWAL,
        certificate.not_before + RENEWS_AT * life,
        days_left,
    )
