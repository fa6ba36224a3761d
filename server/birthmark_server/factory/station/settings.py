"""A station's settings file, station.toml: which server, whose certificate, which slots.

    server = "https://enroll.example:8443"     # these four: birthmark station init
    certificate = "station.pem"
    key = "station.key"
    root = "root.pem"
    image = "device.img"                       # what is flashed; or --image

    [[slot]]
    target = "disk:/dev/disk/by-path/...usb-0:1"
    console = "/dev/ttyUSB0"
    power_on = "uhubctl -l 1-1 -p 1 -a on"
    limits = { flash_s = 300 }

Relative paths start at the folder of the file. In a slot's target, console and commands, `{serial}` stands for the
unit's serial number, `{slot}` for the slot's number. With `{serial}` in its target a slot finds its devices itself.
"""

import difflib
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from birthmark_server.factory.station.errors import StationSettingsBroken
from birthmark_server.factory.values import Phase

STATION_FILE: Final = "station.toml"
SERIAL: Final = "{serial}"
SLOT: Final = "{slot}"
_PATHS: Final = ("certificate", "key", "root", "image", "image_key")

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LimitSettings(_Table):
    """How long each phase may take, in seconds."""

    flash_s: Seconds = 900
    identify_s: Seconds = 180
    attest_s: Seconds = 180
    self_test_s: Seconds = 180
    lock_s: Seconds = 60
    label_s: Seconds = 60

    def by_phase(self) -> Mapping[Phase, timedelta]:
        """Return them as spans."""
        values = self.model_dump()
        return {phase: timedelta(seconds=values[f"{phase.value.replace('-', '_')}_s"]) for phase in Phase}


class SlotSettings(_Table):
    """One place for a device. ready: a command that ends with 0 when the next device is in, with 1 when there are no
    more. options: what else its kind of target takes."""

    target: Annotated[str, Field(pattern=r"^[a-z]+:.+")]
    console: str = ""
    power_on: str = ""
    power_off: str = ""
    ready: str = ""
    limits: LimitSettings = LimitSettings()
    options: dict[str, str] = {}

    @property
    def scheme(self) -> str:
        """The kind of its target: what stands before the colon."""
        return self.target.partition(":")[0]

    @property
    def is_addressed(self) -> bool:
        """Whether a device is found by its serial number, in whatever slot."""
        return SERIAL in self.target and SLOT not in self.target

    @property
    def finds_devices(self) -> bool:
        """Whether there is a next device without anybody's doing."""
        return SERIAL in self.target

    def filled(self, *, serial: str, number: int) -> "SlotSettings":
        """Return it for one unit in one slot. serial: as a name of a file; in a command it stays one word."""
        words = {"target": serial, "console": serial} | dict.fromkeys(
            ("power_on", "power_off", "ready"), shlex.quote(serial)
        )
        texts = {
            name: getattr(self, name).replace(SERIAL, word).replace(SLOT, str(number)) for name, word in words.items()
        }
        return self.model_copy(update=texts)


class StationSettings(_Table):
    """The whole file. root_sha256: what the root must be, hex. image_key: PEM, what firmware is signed with. tries: how
    often a slot tries a device that errs. block: how many serial numbers it takes at once."""

    server: str
    certificate: Path
    key: Path
    root: Path
    root_sha256: str = ""
    name: str = ""
    image: Path | None = None
    image_key: Path | None = None
    tries: Annotated[int, Field(ge=1, le=10)] = 2
    block: Annotated[int, Field(ge=1, le=10_000)] = 50
    slot: tuple[SlotSettings, ...] = ()


def load_station(path: Path) -> StationSettings:
    """Read the file; raise StationSettingsBroken with one sentence for all that is wrong in it."""
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        advice = "; birthmark station init makes it" if isinstance(error, FileNotFoundError) else ""
        raise StationSettingsBroken(f"{path}: {error.strerror}{advice}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StationSettingsBroken(f"{path}: want TOML: {error}") from None
    for key in _PATHS:
        if isinstance(tables.get(key), str):
            tables[key] = str(path.resolve().parent / tables[key])
    try:
        return StationSettings.model_validate(tables)
    except ValidationError as errors:
        raise StationSettingsBroken(f"{path}: " + "; ".join(_explain(errors))) from None


def _explain(errors: ValidationError) -> Iterator[str]:
    for error in errors.errors(include_url=False):
        where = _where(error["loc"])
        if error["type"] == "extra_forbidden":
            nearest = difflib.get_close_matches(str(error["loc"][-1]), _names(), n=1)
            yield f"{where} is no setting" + (f"; did you mean {nearest[0]}?" if nearest else "")
        elif error["type"] == "missing":
            yield f"{where} is missing"
        elif error["type"] == "string_pattern_mismatch":
            yield f"{where}: want KIND:ADDRESS, as disk:/dev/sdb or smp:/dev/ttyACM0, got {error['input']!r}"
        else:
            yield f"{where}: {error['msg']}, got {error['input']!r}"


def _where(loc: tuple[int | str, ...]) -> str:
    """`slot 2: limits.flash_s`: slots count from 1, as they are shown."""
    if len(loc) > 1 and loc[0] == "slot" and isinstance(loc[1], int):
        return f"slot {loc[1] + 1}: {'.'.join(map(str, loc[2:]))}".removesuffix(": ")
    return ".".join(map(str, loc))


def _names() -> list[str]:
    models: tuple[type[BaseModel], ...] = (StationSettings, SlotSettings, LimitSettings)
    return [name for model in models for name in model.model_fields]
