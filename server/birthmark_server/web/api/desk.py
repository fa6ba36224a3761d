"""The desk: all that an operator can ask for and do, whoever does it and from wherever.

StoreDesk (store_desk.py) does it on the store, on the server's own machine; the routes stand before it for operators
who come by HTTPS, and the command line's RemoteDesk before those. Values in and out are the same everywhere.

Rules: a listing gives at most `limit` items behind `after`, which is what `next` of the page before said; it means
nothing to who hands it on. Whatever changes something keeps under whose name. Acts that an operator's role does not
cover raise RoleNotAllowed; what is not there raises store.errors.NotFound.
"""

from typing import Protocol

from birthmark_server.web.api import bodies, queries, views
from birthmark_server.web.api.authority_desk import AuthorityDesk
from birthmark_server.web.api.campaigns.desk import CampaignDesk
from birthmark_server.web.api.workorders.desk import WorkOrderDesk


class Desk(Protocol):
    """See the module's docstring for the rules that hold for all methods."""

    @property
    def campaigns(self) -> CampaignDesk: ...

    @property
    def authorities(self) -> AuthorityDesk: ...

    @property
    def workorders(self) -> WorkOrderDesk: ...

    # -- devices
    def devices(self, query: queries.DeviceQuery, *, after: str = "", limit: int = 100) -> views.DevicePage:
        """By id. Raise UnknownGroup; UnknownIssuer for an issued_by that names no CA of ours."""

    def device(self, device_id: str) -> views.DeviceDetail: ...

    def change_tags(self, device_id: str, change: bodies.TagChange) -> views.Tags:
        """Raise TooManyTags."""

    # Where a device may be moved from where says store/device_states.py: any other raises IllegalMove.
    def quarantine_device(self, device_id: str, quarantine: bodies.Quarantine) -> views.Standing:
        """Shut it out for the time being, and end whatever it has begun; no certificate is revoked."""

    def restore_device(self, device_id: str) -> views.Standing:
        """End its quarantine: its certificates are good as before."""

    def revoke_device(self, device_id: str, revocation: bodies.DeviceRevocation) -> views.Standing:
        """All its certificates, and whatever it has begun."""

    def retire_device(self, device_id: str, retirement: bodies.Retirement) -> views.Standing:
        """End its service: as revoke_device, by another name."""

    def readmit_device(self, device_id: str) -> views.Standing:
        """Let a revoked or retired one enroll again."""

    def ask_swap(self, device_id: str, request: bodies.SwapRequest) -> views.SwapView:
        """Ask for another board; another operator approves it. Raise DeviceNotActive, AlreadyExists."""

    def approve_swap(self, device_id: str, approval: bodies.SwapApproval) -> views.SwapApproved:
        """Raise UnknownSwap; SameOperator for who asked."""

    def deny(self, denial: bodies.Denial) -> views.Cut:
        """For good. A device_id must be on record; a serial number or an EK need never have been seen."""

    def denials(self, *, after: str = "", limit: int = 100) -> views.DenialPage: ...

    # -- certificates
    def certificates(
        self, query: queries.CertificateQuery, *, after: str = "", limit: int = 100
    ) -> views.CertificatePage:
        """By SHA-256."""

    def certificate(self, sha256: str) -> views.CertificateView:
        """The one whose SHA-256 begins so. Raise UnknownCertificate; Malformed if several do."""

    def revoke_certificate(self, sha256: str, revocation: bodies.Revocation) -> views.CertificateCut:
        """As `certificate`. The infrastructure's own are a security officer's."""

    # -- who may enroll
    def models(self, *, after: str = "", limit: int = 100) -> views.ModelPage: ...

    def add_model(self, model: bodies.NewModel) -> views.ModelView:
        """Raise AlreadyExists for one of that name that demands other things."""

    def manifest(self, *, after: str = "", limit: int = 100) -> views.ManifestPage:
        """By serial number."""

    def import_manifest(self, manifest: bodies.NewManifest) -> views.Imported:
        """All or nothing. Raise ManifestConflict, UnknownModel."""

    def remove_line(self, serial: str) -> views.ManifestView:
        """Take a device off the manifest that was not born. Raise UnknownLine, BornAlready."""

    def batches(self, *, after: str = "", limit: int = 100) -> views.BatchPage: ...

    def open_batch(self, batch: bodies.NewBatch) -> views.BatchView:
        """Raise AlreadyExists, UnknownModel."""

    def close_batch(self, name: str) -> views.BatchView: ...

    def refusals(self, query: queries.RefusalQuery, *, after: str = "", limit: int = 100) -> views.RefusalPage:
        """Newest first."""

    # -- operators
    def operators(self, *, after: str = "", limit: int = 100) -> views.OperatorPage: ...

    def add_operator(self, operator: bodies.NewOperator) -> views.IssuedOperator:
        """Issue a certificate. Raise Malformed for a request that proves no key, ProfileViolation."""

    def revoke_operator(self, name: str, revocation: bodies.Revocation) -> views.OperatorCut:
        """All certificates of this operator. Raise UnknownOperator."""

    # -- groups
    def groups(self, *, after: str = "", limit: int = 100) -> views.GroupPage: ...

    def group(self, name: str) -> views.GroupView: ...

    def save_group(self, group: bodies.NewGroup) -> views.GroupView:
        """Raise AlreadyExists for one of that name with another query."""

    def remove_group(self, name: str) -> None: ...

    def status(self) -> views.StatusView: ...
