"""The desk from afar: each method is one request to the server's routes (web/api/routes.py)."""

from birthmark_server.cli.https import OperatorConnection
from birthmark_server.cli.remote_authorities import RemoteAuthorities
from birthmark_server.cli.remote_campaigns import RemoteCampaigns
from birthmark_server.cli.remote_requests import RemoteRequests, segment
from birthmark_server.cli.remote_workorders import RemoteWorkOrders
from birthmark_server.web.api import bodies, queries, views


class RemoteDesk(RemoteRequests):
    """See web.api.desk.Desk, where each method's contract is."""

    def __init__(self, connection: OperatorConnection) -> None:
        super().__init__(connection)
        self.campaigns = RemoteCampaigns(connection)
        self.authorities = RemoteAuthorities(connection)
        self.workorders = RemoteWorkOrders(connection)

    # -- devices
    def devices(self, query: queries.DeviceQuery, *, after: str = "", limit: int = 100) -> views.DevicePage:
        return self._list("/v1/devices", views.DevicePage, after, limit, query)

    def device(self, device_id: str) -> views.DeviceDetail:
        return self._get(f"/v1/devices/{segment(device_id)}", views.DeviceDetail)

    def change_tags(self, device_id: str, change: bodies.TagChange) -> views.Tags:
        return self._post(f"/v1/devices/{segment(device_id)}/tags", views.Tags, change)

    def quarantine_device(self, device_id: str, quarantine: bodies.Quarantine) -> views.Standing:
        return self._post(f"/v1/devices/{segment(device_id)}/quarantine", views.Standing, quarantine)

    def restore_device(self, device_id: str) -> views.Standing:
        return self._post(f"/v1/devices/{segment(device_id)}/restore", views.Standing)

    def revoke_device(self, device_id: str, revocation: bodies.DeviceRevocation) -> views.Standing:
        return self._post(f"/v1/devices/{segment(device_id)}/revoke", views.Standing, revocation)

    def retire_device(self, device_id: str, retirement: bodies.Retirement) -> views.Standing:
        return self._post(f"/v1/devices/{segment(device_id)}/retire", views.Standing, retirement)

    def readmit_device(self, device_id: str) -> views.Standing:
        return self._post(f"/v1/devices/{segment(device_id)}/readmit", views.Standing)

    def ask_swap(self, device_id: str, request: bodies.SwapRequest) -> views.SwapView:
        return self._create(f"/v1/devices/{segment(device_id)}/swap", views.SwapView, request)

    def approve_swap(self, device_id: str, approval: bodies.SwapApproval) -> views.SwapApproved:
        return self._post(f"/v1/devices/{segment(device_id)}/swap/approval", views.SwapApproved, approval)

    def deny(self, denial: bodies.Denial) -> views.Cut:
        return self._create("/v1/denials", views.Cut, denial)

    def denials(self, *, after: str = "", limit: int = 100) -> views.DenialPage:
        return self._list("/v1/denials", views.DenialPage, after, limit)

    # -- certificates
    def certificates(
        self, query: queries.CertificateQuery, *, after: str = "", limit: int = 100
    ) -> views.CertificatePage:
        return self._list("/v1/certificates", views.CertificatePage, after, limit, query)

    def certificate(self, sha256: str) -> views.CertificateView:
        return self._get(f"/v1/certificates/{segment(sha256)}", views.CertificateView)

    def revoke_certificate(self, sha256: str, revocation: bodies.Revocation) -> views.CertificateCut:
        return self._post(f"/v1/certificates/{segment(sha256)}/revoke", views.CertificateCut, revocation)

    # -- who may enroll
    def models(self, *, after: str = "", limit: int = 100) -> views.ModelPage:
        return self._list("/v1/models", views.ModelPage, after, limit)

    def add_model(self, model: bodies.NewModel) -> views.ModelView:
        return self._create("/v1/models", views.ModelView, model)

    def manifest(self, *, after: str = "", limit: int = 100) -> views.ManifestPage:
        return self._list("/v1/manifest", views.ManifestPage, after, limit)

    def import_manifest(self, manifest: bodies.NewManifest) -> views.Imported:
        return self._create("/v1/manifest", views.Imported, manifest)

    def remove_line(self, serial: str) -> views.ManifestView:
        return self._remove(f"/v1/manifest/{segment(serial)}", views.ManifestView)

    def batches(self, *, after: str = "", limit: int = 100) -> views.BatchPage:
        return self._list("/v1/batches", views.BatchPage, after, limit)

    def open_batch(self, batch: bodies.NewBatch) -> views.BatchView:
        return self._create("/v1/batches", views.BatchView, batch)

    def close_batch(self, name: str) -> views.BatchView:
        return self._post(f"/v1/batches/{segment(name)}/close", views.BatchView)

    def refusals(self, query: queries.RefusalQuery, *, after: str = "", limit: int = 100) -> views.RefusalPage:
        return self._list("/v1/refusals", views.RefusalPage, after, limit, query)

    # -- operators
    def operators(self, *, after: str = "", limit: int = 100) -> views.OperatorPage:
        return self._list("/v1/operators", views.OperatorPage, after, limit)

    def add_operator(self, operator: bodies.NewOperator) -> views.IssuedOperator:
        return self._create("/v1/operators", views.IssuedOperator, operator)

    def revoke_operator(self, name: str, revocation: bodies.Revocation) -> views.OperatorCut:
        return self._post(f"/v1/operators/{segment(name)}/revoke", views.OperatorCut, revocation)

    # -- groups
    def groups(self, *, after: str = "", limit: int = 100) -> views.GroupPage:
        return self._list("/v1/groups", views.GroupPage, after, limit)

    def group(self, name: str) -> views.GroupView:
        return self._get(f"/v1/groups/{segment(name)}", views.GroupView)

    def save_group(self, group: bodies.NewGroup) -> views.GroupView:
        return self._create("/v1/groups", views.GroupView, group)

    def remove_group(self, name: str) -> None:
        self._delete(f"/v1/groups/{segment(name)}")

    def status(self) -> views.StatusView:
        return self._get("/v1/status", views.StatusView)
