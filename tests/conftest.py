"""What every run of these tests needs, in one process or in several: README.md beside this file has the rules."""

import os
import signal

import pytest
from xdist.scheduler import LoadScopeScheduling

from support.sharing_out import ByFile, long_first

# Ctrl-C as in a terminal: a shell that starts a job in the background has it ignored, and all children inherit that,
# though tests here send it, to themselves and to programs.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """The workers run by now, and `coverage run` measures them; programs under test are as quick as a customer's."""
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long."""
    items[:] = long_first(items)


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Share the tests out among the workers."""
    return ByFile(config, log)
