"""docs/api.md lists every operation with its roles: its table is drawn from the routes.

`PYTHONPATH=tests python tests/web/test_api_doc.py` from the root of the repository draws it anew.
"""

import re
from pathlib import Path

from birthmark_server.roles import PROFILE_OF, Role
from birthmark_server.web.api.routes import OPERATIONS
from support.routes import of_stations

DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"
MARKED = re.compile(r"(<!-- operations -->\n).*?(<!-- /operations -->)", re.DOTALL)
OF_STATIONS = re.compile(r"(<!-- stations -->\n).*?(<!-- /stations -->)", re.DOTALL)
SHORT = {Role.VIEWER: "v", Role.FACTORY: "f", Role.OPERATOR: "o", Role.SECURITY_OFFICER: "s"}


def table() -> str:
    """The operations, each with the first letters of its roles."""
    lines = ["| | path | roles | key | |", "|---|---|---|---|---|"]
    for method, path, roles, contract, _ in OPERATIONS:
        letters = " ".join(SHORT[role] for role in Role if role in roles)
        lines.append(f"| {method} | `{path}` | {letters} | {'yes' if contract.creates else ''} | {contract.summary} |")
    return "\n".join([*lines, ""])


def stations_table() -> str:
    """What stations ask, each with the first letters of the roles that may ask it too."""
    lines = ["| | path | and roles | key | |", "|---|---|---|---|---|"]
    for route in of_stations():
        letters = " ".join(SHORT[role] for role in Role if PROFILE_OF[role] in route.door.profiles)
        assert route.contract is not None
        key = "yes" if route.contract.creates else ""
        lines.append(f"| {route.method} | `{route.path}` | {letters} | {key} | {route.contract.summary} |")
    return "\n".join([*lines, ""])


def test_the_document_lists_every_operation_with_its_roles() -> None:
    found = MARKED.search(DOCUMENT.read_text())
    assert found is not None
    assert found[0] == f"{found[1]}{table()}{found[2]}", "PYTHONPATH=tests python tests/web/test_api_doc.py"


def test_the_document_lists_what_stations_ask() -> None:
    found = OF_STATIONS.search(DOCUMENT.read_text())
    assert found is not None
    assert found[0] == f"{found[1]}{stations_table()}{found[2]}", "PYTHONPATH=tests python tests/web/test_api_doc.py"


if __name__ == "__main__":
    drawn = MARKED.sub(lambda m: m[1] + table() + m[2], DOCUMENT.read_text())
    DOCUMENT.write_text(OF_STATIONS.sub(lambda m: m[1] + stations_table() + m[2], drawn))
