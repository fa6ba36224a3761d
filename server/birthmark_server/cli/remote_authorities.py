"""The desk's part about authorities from afar: each method is one request."""

from birthmark_server.cli.remote_requests import RemoteRequests, segment
from birthmark_server.web.api import authority_views as views


class RemoteAuthorities(RemoteRequests):
    """See web.api.authority_desk.AuthorityDesk, where each method's contract is."""

    def authorities(self, *, after: str = "", limit: int = 100) -> views.AuthorityPage:
        return self._list("/v1/authorities", views.AuthorityPage, after, limit)

    def authority(self, name: str) -> views.AuthorityStatus:
        return self._get(f"/v1/authorities/{segment(name)}", views.AuthorityStatus)

    def laggards(self, name: str, *, after: str = "", limit: int = 100) -> views.LaggardPage:
        return self._list(f"/v1/authorities/{segment(name)}/laggards", views.LaggardPage, after, limit)

    def leaves(self, name: str, *, after: str = "", limit: int = 100) -> views.LeafPage:
        return self._list(f"/v1/authorities/{segment(name)}/leaves", views.LeafPage, after, limit)

    def stage(self, name: str) -> views.AuthorityMoved:
        return self._post(f"/v1/authorities/{segment(name)}/stage", views.AuthorityMoved)

    def withdraw(self, name: str) -> views.AuthorityMoved:
        return self._post(f"/v1/authorities/{segment(name)}/withdraw", views.AuthorityMoved)

    def activate(self, name: str, activation: views.Activation) -> views.AuthorityMoved:
        return self._post(f"/v1/authorities/{segment(name)}/activate", views.AuthorityMoved, activation)

    def retire(self, name: str) -> views.AuthorityMoved:
        return self._post(f"/v1/authorities/{segment(name)}/retire", views.AuthorityMoved)

    def restore(self, name: str) -> views.AuthorityMoved:
        return self._post(f"/v1/authorities/{segment(name)}/restore", views.AuthorityMoved)
