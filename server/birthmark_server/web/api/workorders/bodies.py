"""What operators and stations send."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from birthmark_server.factory.serials import BadSerialPattern, SerialPool
from birthmark_server.web.api.values import ModelName, OperatorName, View, WorkOrderName

MOST_DEVICES: Final = 1_000_000
MOST_SERIALS: Final = 10_000
"""How many serial numbers a station may take at once."""


def _pattern(value: str) -> str:
    try:
        SerialPool.parse(value)
    except BadSerialPattern as error:
        raise ValueError(str(error)) from None
    return value


class NewWorkOrder(View):
    """So many devices of one model, each with a serial number of this pattern."""

    name: WorkOrderName
    model: ModelName
    quantity: Annotated[int, Field(ge=1, le=MOST_DEVICES)]
    serials: Annotated[
        str,
        AfterValidator(_pattern),
        Field(
            max_length=64,
            description="As SN-{:06}-{c}: {:06} is the number, {c} its check character; with @FIRST, where it begins. "
            "Without, it goes on behind the work orders that have the same pattern.",
        ),
    ]
    open_for_s: Annotated[
        int, Field(ge=60, le=366 * 86_400, description="How long stations may sign for it, from now on.")
    ]


class SerialsWanted(View):
    """How many serial numbers a station wants; it gets fewer where fewer are left."""

    count: Annotated[int, Field(ge=1, le=MOST_SERIALS)]


class NewStation(View):
    """Which station to give a certificate. csr: PKCS #10 in PEM, of which the public key counts, P-256, and the proof
    that whoever made it has the private one."""

    name: OperatorName
    csr: Annotated[str, Field(max_length=8192)]
