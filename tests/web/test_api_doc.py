"""docs/api.md lists every operation with its roles: its table is drawn from the routes.

`PYTHONPATH=tests python tests/web/test_api_doc.py` from the root of the repository draws it anew.
"""

import re
from pathlib import Path

from birthmark_server.roles import Role
from birthmark_server.web.api.routes import OPERATIONS

DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"
MARKED = re.compile(r"(<!-- operations -->\n).*?(<!-- /operations -->)", re.DOTALL)
SHORT = {Role.VIEWER: "v", Role.FACTORY: "f", Role.OPERATOR: "o", Role.SECURITY_OFFICER: "s"}


def table() -> str:
    """The operations, each with the first letters of its roles."""
    lines = ["| | path | roles | key | |", "|---|---|---|---|---|"]
    for method, path, roles, contract, _ in OPERATIONS:
        letters = " ".join(SHORT[role] for role in Role if role in roles)
        lines.append(f"| {method} | `{path}` | {letters} | {'yes' if contract.creates else ''} | {contract.summary} |")
    return "\n".join([*lines, ""])


def test_the_document_lists_every_operation_with_its_roles() -> None:
    found = MARKED.search(DOCUMENT.read_text())
    assert found is not None
    assert found[0] == f"{found[1]}{table()}{found[2]}", "PYTHONPATH=tests python tests/web/test_api_doc.py"


if __name__ == "__main__":
    DOCUMENT.write_text(MARKED.sub(lambda m: m[1] + table() + m[2], DOCUMENT.read_text()))
