"""The contract's modules are tests too: their asserts are to tell what they saw."""

import pytest

pytest.register_assert_rewrite(
    *(
        f"store.contract_{part}"
        for part in ("setup", "admission", "births", "denials", "fleet", "life", "races", "restore", "workorders")
    )
)
