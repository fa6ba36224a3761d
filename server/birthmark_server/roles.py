"""What an operator may do: four roles, each a certificate policy of its own, never a name (ADR 0026).

A certificate says its role by its profile. One without a role, from before there were any, is worth a viewer's.
"""

from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, Final

from birthmark_server.domain import CertificateProfile
from birthmark_server.errors import Refused


class Role(StrEnum):
    """Who may do what is said by each route (web/api/) and each act; this is what the words mean."""

    VIEWER = "viewer"
    """Reads."""
    FACTORY = "factory"
    """Reads, and sets up who may enroll: manifests and batches."""
    OPERATOR = "operator"
    """Reads, and looks after the fleet: models, tags, groups, campaigns, and where devices stand."""
    SECURITY_OFFICER = "security-officer"
    """All of that, and who is an operator."""


PROFILE_OF: Final = MappingProxyType(
    {
        Role.VIEWER: CertificateProfile.VIEWER,
        Role.FACTORY: CertificateProfile.FACTORY,
        Role.OPERATOR: CertificateProfile.FLEET_OPERATOR,
        Role.SECURITY_OFFICER: CertificateProfile.SECURITY_OFFICER,
    }
)

ROLE_OF: Final = MappingProxyType(
    {CertificateProfile.OPERATOR: Role.VIEWER, **{profile: role for role, profile in PROFILE_OF.items()}}
)
"""The role of each kind of operator's certificate."""

OPERATOR_PROFILES: Final = tuple(ROLE_OF)

READING: Final = frozenset(Role)
ADMITTING: Final = frozenset({Role.FACTORY, Role.OPERATOR, Role.SECURITY_OFFICER})
"""Who may enroll: manifests and batches."""
STEERING: Final = frozenset({Role.OPERATOR, Role.SECURITY_OFFICER})
"""The fleet: models, tags, groups, campaigns, where devices stand."""
VOUCHING: Final = frozenset({Role.SECURITY_OFFICER})
"""Who is an operator, and the infrastructure's own certificates."""


class RoleNotAllowed(Refused):
    """The operator's role does not cover this."""

    code: ClassVar[str] = "role-not-allowed"


def require(role: Role | None, allowed: frozenset[Role], what: str) -> None:
    """Raise RoleNotAllowed unless `role` is among those allowed. None: nobody's certificate is asked for here."""
    if role is not None and role not in allowed:
        wanted = " or ".join(each for each in Role if each in allowed)
        raise RoleNotAllowed(f"{what} is for the role {wanted}, and the certificate's is {role}")
