"""A device without a clock behind a TLS front, which shows a certificate of its own."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from birthmark_agent.clock import ClockState
from birthmark_agent.homecoming import Homecoming
from birthmark_agent.identity import Identities
from birthmark_agent.settings import load_settings
from support.agent_site import AgentSite, Device, WrongClock
from support.front import running_front

pytestmark = pytest.mark.parts


@pytest.fixture(scope="module")
def front_port(site: AgentSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """HAProxy before the site's server."""
    folder = tmp_path_factory.mktemp("front")
    socket = folder / "s"
    with (
        site.server(extra=f'[front]\nlisten = "{socket}"\n'),
        running_front(folder, site.installation, socket=socket) as front,
    ):
        yield front.port


def behind(site: AgentSite, device: Device, port: int) -> Path:
    """Settings that lead to the front."""
    text = device.config.read_text()
    device.config.write_text(text.replace(f"localhost:{site.installation.port}", f"localhost:{port}"))
    return device.config


@pytest.mark.parametrize("year", [1970, 2099])
def test_a_device_without_a_clock_learns_the_time_through_a_front(site: AgentSite, front_port: int, year: int) -> None:
    device = site.device(f"FRONT-{year}")
    settings = load_settings(behind(site, device, front_port))
    identities = Identities(settings, system=WrongClock(datetime(year, 1, 2, tzinfo=UTC)))
    identities.learn_time()
    assert identities.clock.state() is ClockState.SET
    assert abs(identities.clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    slot = Homecoming(identities).find()
    assert slot.identity.device_id == device.device_id
