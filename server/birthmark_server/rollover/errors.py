"""Why an authority is not moved: what must be so first, and is not."""

from typing import ClassVar

from birthmark_server.store.errors import Conflict


class NotThisFirst(Conflict):
    """Another authority must be moved before this one."""

    code: ClassVar[str] = "another-authority-first"


class LinkMissing(Conflict):
    """No certificate leads from a root that is believed to this one: nobody could come to trust it."""

    code: ClassVar[str] = "root-link-missing"


class BundleFull(Conflict):
    """The trust bundle has no room for one more."""

    code: ClassVar[str] = "trust-bundle-full"


class AuthorityDiffers(Conflict):
    """The CA folder holds another authority of that name than the one on record."""

    code: ClassVar[str] = "authority-differs"


class QuorumMissing(Conflict):
    """Devices, brokers or servers do not know it yet, and would break. The message names them."""

    code: ClassVar[str] = "quorum-missing"
