"""Who this agent is, as it tells server and broker."""

from typing import Final

VERSION: Final = "0.1.0"
"""The distribution's, written here once more (a test compares): asking importlib.metadata costs 1 MB of memory."""

AGENT: Final = f"birthmark-agent/{VERSION}"
