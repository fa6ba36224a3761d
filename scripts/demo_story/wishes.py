"""What was asked for on the command line."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Wishes:
    """timeout_s: for the devices to get through the stages before a campaign."""

    devices: int
    keep: bool
    as_json: bool
    picture: Path | None
    timeout_s: float
    campaign: bool = False
    factory: bool = False
