"""`birthmark model`: what every device of one model must prove."""

import re
from typing import Annotated

import typer

from birthmark_server.cli.output import Column, Json, Limit, parts, say, show, who
from birthmark_server.cli.workplace import OperatorFile, workplace
from birthmark_server.web.api.bodies import NewModel
from birthmark_server.web.api.views import ModelView
from birthmark_wire import ids
from birthmark_wire.tpm_templates import EK_TEMPLATES

app = typer.Typer(no_args_is_help=True, help="Device models: which TPM key identifies one, and what it must prove.")

_COLUMNS = (
    Column[ModelView]("model", lambda model: model.name),
    Column[ModelView]("EK template", lambda model: model.ek_template),
    Column[ModelView]("EK certificate", lambda model: "required" if model.require_ek_certificate else "optional"),
    Column[ModelView]("quote of PCRs", lambda model: model.quote_pcrs),
    Column[ModelView]("TPM makers", lambda model: model.manufacturers or "any trusted"),
    Column[ModelView]("added by", lambda model: who(model.added_by)),
)


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The model's name, as manifests and batches give it.")],
    ek: Annotated[
        str, typer.Option(help=f"The EK template that identifies a device: {', '.join(EK_TEMPLATES)}.")
    ] = "rsa2048",
    allow_listed_ek: Annotated[
        bool,
        typer.Option(
            "--allow-listed-ek",
            help="Accept a TPM without an EK certificate if its EK is on the manifest (lower assurance, and shown).",
        ),
    ] = False,
    quote_pcrs: Annotated[str, typer.Option(metavar="N,N", help="PCRs that each enrollment must quote.")] = "",
    manufacturer: Annotated[
        list[str] | None,
        typer.Option(metavar="id:XXXXXXXX", help="Accept TPMs of this manufacturer only; may be repeated."),
    ] = None,
    operator: OperatorFile = None,
) -> None:
    """Add a device model.

    One TPM has several endorsement keys; the model fixes which one is a device's identity, so that a denied device
    does not come back with its other one.

    Example:  birthmark model add EDGE-7 --ek p384 --quote-pcrs 0,2,4,7
    """
    if ek not in EK_TEMPLATES:
        raise typer.BadParameter(f"want one of {', '.join(EK_TEMPLATES)}, got {ek!r}", param_hint="--ek")
    model = NewModel(
        name=ids.printable_name(name, field="model"),
        ek_template=ek,
        require_ek_certificate=not allow_listed_ek,
        quote_pcrs=_pcrs(quote_pcrs),
        manufacturers=tuple(map(_manufacturer, manufacturer or ())),
    )
    with workplace(context).desk(operator) as desk:
        desk.add_model(model)
    say(f"model {model.name} added; next: birthmark manifest import FILE.csv, or birthmark batch open")


@app.command("list")
def list_models(context: typer.Context, limit: Limit = 1000, as_json: Json = False) -> None:
    """List the device models.

    Example:  birthmark model list --json
    """
    with workplace(context).desk() as desk:
        models = list(parts(lambda after, size: desk.models(after=after, limit=size), limit=limit))
    show(models, _COLUMNS, as_json=as_json, empty="no models yet; add one with: birthmark model add NAME")


def _manufacturer(text: str) -> str:
    if not re.fullmatch("id:[0-9A-F]{8}", text):
        raise typer.BadParameter(
            f"want id: and 8 hex digits in capitals, as in id:49465800; got {text!r}", param_hint="--manufacturer"
        )
    return text


def _pcrs(text: str) -> tuple[int, ...]:
    try:
        pcrs = tuple(sorted({int(part) for part in text.split(",")})) if text else ()
    except ValueError:
        raise typer.BadParameter(
            f"want PCR numbers with commas between, got {text!r}", param_hint="--quote-pcrs"
        ) from None
    if any(not 0 <= pcr <= 23 for pcr in pcrs):
        raise typer.BadParameter(f"want PCR numbers 0 to 23, got {text!r}", param_hint="--quote-pcrs")
    return pcrs
