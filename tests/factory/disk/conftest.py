"""One small image for all tests of this folder."""

from pathlib import Path

import pytest

from support.small_image import small_image


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_image(tmp_path_factory.mktemp("image") / "small")
