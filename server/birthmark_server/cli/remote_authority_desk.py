"""The desk's part about authorities, from afar: a part of RemoteDesk."""

from typing import Protocol, TypeVar

from pydantic import BaseModel

from birthmark_server.cli.segments import segment
from birthmark_server.web.api import authority_views as views

M = TypeVar("M", bound=BaseModel)


class Asks(Protocol):
    """How a request is made: the part of RemoteDesk that this one needs."""

    def _get(self, path: str, answer: type[M]) -> M: ...

    def _list(self, path: str, answer: type[M], after: str, limit: int, query: BaseModel | None = None) -> M: ...

    def _post(self, path: str, answer: type[M], body: BaseModel | None = None) -> M: ...


class RemoteAuthorityDesk:
    """See web.api.authority_desk.AuthorityDesk, where each method's contract is."""

    def authorities(self: Asks, *, after: str = "", limit: int = 100) -> views.AuthorityPage:
        return self._list("/v1/authorities", views.AuthorityPage, after, limit)

    def authority(self: Asks, name: str) -> views.AuthorityStatus:
        return self._get(f"/v1/authorities/{segment(name)}", views.AuthorityStatus)

    def authority_laggards(self: Asks, name: str, *, after: str = "", limit: int = 100) -> views.LaggardPage:
        return self._list(f"/v1/authorities/{segment(name)}/laggards", views.LaggardPage, after, limit)

    def authority_leaves(self: Asks, name: str, *, after: str = "", limit: int = 100) -> views.LeafPage:
        return self._list(f"/v1/authorities/{segment(name)}/leaves", views.LeafPage, after, limit)

    def stage_authority(self: Asks, name: str) -> views.AuthorityMoved:
        return self._post(f"/v1/authorities/{segment(name)}/stage", views.AuthorityMoved)

    def withdraw_authority(self: Asks, name: str) -> views.AuthorityMoved:
        return self._post(f"/v1/authorities/{segment(name)}/withdraw", views.AuthorityMoved)

    def activate_authority(self: Asks, name: str, activation: views.Activation) -> views.AuthorityMoved:
        return self._post(f"/v1/authorities/{segment(name)}/activate", views.AuthorityMoved, activation)

    def retire_authority(self: Asks, name: str) -> views.AuthorityMoved:
        return self._post(f"/v1/authorities/{segment(name)}/retire", views.AuthorityMoved)

    def restore_authority(self: Asks, name: str) -> views.AuthorityMoved:
        return self._post(f"/v1/authorities/{segment(name)}/restore", views.AuthorityMoved)
