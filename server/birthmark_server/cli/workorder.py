"""`birthmark workorder`: so many devices of one model, to be made at stations."""

from typing import Annotated

import typer

from birthmark_server.cli.output import Column, Json, Limit, moment, parts, print_json, say, show, show_fields, who
from birthmark_server.cli.spans import seconds
from birthmark_server.cli.workplace import OperatorFile, now, workplace
from birthmark_server.factory.serials import SerialPool
from birthmark_server.web.api.workorders.bodies import MOST_DEVICES, NewWorkOrder
from birthmark_server.web.api.workorders.views import WorkOrderView

app = typer.Typer(no_args_is_help=True, help="Work orders: so many devices of one model, to be made at stations.")

Name = Annotated[str, typer.Argument(help="The work order's name.")]


def _state(order: WorkOrderView) -> str:
    if order.closed_at is not None:
        return "closed"
    if order.born >= order.quantity:
        return "made"
    return "over" if order.closes_at <= now() else "open"


_COLUMNS = (
    Column[WorkOrderView]("work order", lambda order: order.name),
    Column[WorkOrderView]("model", lambda order: order.model),
    Column[WorkOrderView]("state", _state, lambda order: "green" if _state(order) in ("open", "made") else "dim"),
    Column[WorkOrderView]("given", lambda order: order.given),
    Column[WorkOrderView]("signed", lambda order: order.entries),
    Column[WorkOrderView]("born", lambda order: f"{order.born} of {order.quantity}"),
    Column[WorkOrderView]("closes", lambda order: order.closes_at),
    Column[WorkOrderView]("created by", lambda order: who(order.created_by)),
)


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name, as WO-2026-17: devices have it as their batch.")],
    model: Annotated[str, typer.Option(help="The model of every device.")],
    quantity: Annotated[int, typer.Option(min=1, max=MOST_DEVICES, help="How many devices.")],
    serials: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="Their serial numbers: {:06} for the number, {c} for its check character, @FIRST for where it begins; "
            "without, behind the last work order of that pattern.",
        ),
    ],
    duration: Annotated[
        str, typer.Option("--for", metavar="30d", help="How long stations may sign for it: minutes m, hours h, days d.")
    ] = "30d",
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Make a work order. Stations take serial numbers of it, and sign for the devices that they make.

    Example:  birthmark workorder create WO-17 --model EDGE-7 --quantity 500 --serials 'SN-{:06}-{c}'
    """
    new = NewWorkOrder(name=name, model=model, quantity=quantity, serials=serials, open_for_s=seconds(duration))
    with workplace(context).desk(operator) as desk:
        order = desk.workorders.create(new)
    pool = SerialPool.parse(order.serials)
    say(
        f"work order {order.name}: {order.quantity} devices of model {order.model}, {pool.serial(0)} to "
        f"{pool.serial(order.quantity - 1)}, until {moment(order.closes_at)}"
    )
    say(f"at a station: birthmark factory run --workorder {order.name} --operator YOU.pem")
    if as_json:
        print_json(order.model_dump(mode="json"))


@app.command("list")
def list_workorders(context: typer.Context, limit: Limit = 1000, as_json: Json = False) -> None:
    """List the work orders, by name: serial numbers given to stations, devices signed for, devices born.

    Example:  birthmark workorder list
    """
    with workplace(context).desk() as desk:
        found = list(parts(lambda after, size: desk.workorders.workorders(after=after, limit=size), limit=limit))
    show(found, _COLUMNS, as_json=as_json, empty="no work orders yet; make one with: birthmark workorder create NAME")


@app.command("show")
def show_workorder(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show one work order, and how far it is. Its devices: birthmark device list --batch NAME.

    Example:  birthmark workorder show WO-17
    """
    with workplace(context).desk() as desk:
        order = desk.workorders.workorder(name)
    if as_json:
        print_json(order.model_dump(mode="json"))
        return
    pool = SerialPool.parse(order.serials)
    show_fields(
        [
            ("work order", order.name),
            ("model", order.model),
            ("state", _state(order)),
            ("serial numbers", f"{pool.serial(0)} to {pool.serial(order.quantity - 1)} ({order.serials})"),
            ("given to stations", f"{order.given} of {order.quantity}"),
            ("signed for", order.entries),
            ("born", f"{order.born} of {order.quantity}"),
            ("created", f"{moment(order.created_at)} by {who(order.created_by)}"),
            ("closes", moment(order.closes_at)),
            ("closed", f"{moment(order.closed_at)} by {who(order.closed_by)}" if order.closed_at else "-"),
        ]
    )


@app.command()
def close(context: typer.Context, name: Name, operator: OperatorFile = None) -> None:
    """Close a work order now: no station gets serial numbers of it any more, and what one signs later is not taken.

    What a station signed before, while it was alone, is taken whenever it is brought. Closing a closed one changes
    nothing.

    Example:  birthmark workorder close WO-17
    """
    with workplace(context).desk(operator) as desk:
        order = desk.workorders.close(name)
    say(f"work order {order.name} is closed; {order.born} of {order.quantity} devices were born")
