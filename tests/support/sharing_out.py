"""How the tests are shared out among the workers of pytest-xdist: by files, the long ones first.

A file's tests share what its module-scoped fixtures made (a site takes a second or two), so they stay together. The
order is by folder: a worker that begins with a long file late would leave the others idle at the end.
"""

from collections.abc import Sequence
from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

LONG_FIRST: Final = ("integration_agent", "rotation", "demo", "integration", "gate", "store")
"""Folders of tests/ whose tests take long or wait much; all others follow in their own order."""
TOGETHER: Final = ("tests/demo/",)
"""Folders whose files share something outside the tests' own folders, and so must not run at the same time."""
ONE_BY_ONE: Final = ("tests/integration_agent/test_killed.py",)
"""Files with few and long tests, which share nothing but what each of them can well make for itself."""


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hands out whole files, but for those named above."""

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)


def unit(nodeid: str) -> str:
    """Name the unit of work that a test belongs to."""
    path = nodeid.split("::", 1)[0]
    if path in ONE_BY_ONE:
        return nodeid
    return next((folder for folder in TOGETHER if path.startswith(folder)), path)


def long_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests in the order in which they are to be begun."""
    return sorted(items, key=_rank)  # stable: the files and their tests keep their order


def _rank(item: pytest.Item) -> int:
    room = item.nodeid.split("/")[1] if item.nodeid.count("/") > 1 else ""
    return LONG_FIRST.index(room) if room in LONG_FIRST else len(LONG_FIRST)
