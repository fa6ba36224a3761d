"""`birthmark workorder`: so many devices of one model, each with a serial number of its own, for stations to make."""

from typing import Annotated

import typer

from birthmark_server.cli.batch import span_s
from birthmark_server.cli.output import Column, Json, Limit, moment, parts, print_json, say, show, who
from birthmark_server.cli.workplace import OperatorFile, now, workplace
from birthmark_server.factory.serials import SerialPool
from birthmark_server.web.api.workorders.bodies import NewWorkOrder
from birthmark_server.web.api.workorders.views import WorkOrderView
from birthmark_wire import ids

app = typer.Typer(no_args_is_help=True, help="Work orders: so many devices of one model, for the factory's stations.")


def _state(order: WorkOrderView) -> str:
    if order.closed_at is not None:
        return "closed"
    if order.closes_at <= now():
        return "over"
    return "made" if order.born >= order.quantity else "open"


_COLUMNS = (
    Column[WorkOrderView]("work order", lambda order: order.name),
    Column[WorkOrderView]("model", lambda order: order.model),
    Column[WorkOrderView]("state", _state, lambda order: "green" if _state(order) in ("open", "made") else "dim"),
    Column[WorkOrderView]("born", lambda order: f"{order.born} of {order.quantity}"),
    Column[WorkOrderView]("signed for", lambda order: str(order.entries)),
    Column[WorkOrderView]("at stations", lambda order: str(order.given)),
    Column[WorkOrderView]("serials", lambda order: order.serials),
    Column[WorkOrderView]("closes", lambda order: order.closes_at),
    Column[WorkOrderView]("made by", lambda order: who(order.created_by)),
)


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name that the stations give, as W-1042.")],
    model: Annotated[str, typer.Option(help="The model of every device in it.")],
    quantity: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many.")],
    serials: Annotated[
        str,
        typer.Option(
            help="The pattern of serial numbers: {:06} is the number, {c} its check character, @N the first one."
        ),
    ] = "SN-{:06}-{c}",
    duration: Annotated[
        str, typer.Option("--for", metavar="14d", help="How long stations may work on it: minutes m, hours h, days d.")
    ] = "90d",
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Make a work order. Stations take serial numbers from it, and sign for the devices that get them.

    Example:  birthmark workorder create W-1042 --model EDGE-7 --quantity 500 --serials 'E7-{:06}-{c}'
    """
    new = NewWorkOrder(
        name=ids.printable_name(name, field="work order"),
        model=ids.printable_name(model, field="model"),
        quantity=quantity,
        serials=serials,
        open_for_s=span_s(duration),
    )
    with workplace(context).desk(operator) as desk:
        made = desk.workorders.create(new)
    if as_json:
        print_json(made.model_dump(mode="json"))
        return
    pool = SerialPool.parse(made.serials)
    say(f"work order {made.name}: {quantity} of {model}, {pool.serial(0)} to {pool.serial(quantity - 1)}, until "
        f"{made.closes_at:%Y-%m-%d %H:%M}Z")  # fmt: skip
    say(f"next, at a station: birthmark factory run --workorder {made.name} --operator YOURS.pem")


@app.command("list")
def list_orders(context: typer.Context, limit: Limit = 1000, as_json: Json = False) -> None:
    """List work orders, by name, and how far each is.

    Example:  birthmark workorder list
    """
    with workplace(context).desk() as desk:
        found = list(parts(lambda after, size: desk.workorders.workorders(after=after, limit=size), limit=limit))
    show(found, _COLUMNS, as_json=as_json, empty="no work orders yet; make one: birthmark workorder create --help")


@app.command("show")
def show_order(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Its name.")], as_json: Json = False
) -> None:
    """Show one work order.

    Example:  birthmark workorder show W-1042
    """
    with workplace(context).desk() as desk:
        order = desk.workorders.workorder(name)
    show([order], _COLUMNS, as_json=as_json, empty="")


@app.command()
def close(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name.")],
    operator: OperatorFile = None,
) -> None:
    """Close a work order: no station takes serial numbers from it, or signs for it, any more.

    Example:  birthmark workorder close W-1042
    """
    with workplace(context).desk(operator) as desk:
        order = desk.workorders.close(name)
    at = f" at {moment(order.closed_at)}" if order.closed_at else ""
    say(f"work order {order.name} is closed by {who(order.closed_by)}{at}: {order.born} of {order.quantity} were born")
