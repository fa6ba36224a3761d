"""A site, and an image for its devices: built once for each file of tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent_site import AgentSite
from support.device_image import build_image, spec_for
from support.tpm_stock import TpmStock


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentSite]:
    """Installation, TPM vendor and a running broker."""
    folder = tmp_path_factory.mktemp("site")
    with AgentSite.create(folder, stock=TpmStock(folder / "tpm-stock")) as made:
        yield made


@pytest.fixture(scope="module")
def image(site: AgentSite) -> Path:
    """The site's image for amd64: a folder."""
    return build_image(spec_for(site), site.folder / "image")
