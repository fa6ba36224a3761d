"""Options that several commands share are the same everywhere, and reach the command as one value."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from birthmark_server.cli import application
from birthmark_server.cli.device_options import Which, WhichOfGroup
from birthmark_server.cli.option_groups import grouped


@dataclass(frozen=True)
class Size:
    """A group."""

    wide: Annotated[int, typer.Option(help="How wide.")] = 2
    name: Annotated[list[str] | None, typer.Option("--called", help="What it is called.")] = None


def test_a_group_of_options_reaches_the_command_as_one_value() -> None:
    app, seen = typer.Typer(), []

    @app.command()
    @grouped
    def make(what: str, size: Size, deep: int = 3) -> None:
        """Make it."""
        seen.append((what, size, deep))

    for words in (["box"], ["box", "--wide", "5", "--called", "a", "--called", "b", "--deep", "1"]):
        assert CliRunner().invoke(app, words).exit_code == 0
    assert seen == [("box", Size(), 3), ("box", Size(5, ["a", "b"]), 1)]
    said = CliRunner().invoke(app, ["--help"]).output
    assert said.index("--wide") < said.index("--called") < said.index("--deep")
    assert "How wide." in said
    assert "--size" not in said


def options(*words: str) -> dict[str, str | None]:
    """The names of a command's options, each with its help."""
    command = get_command(application())
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]  # a group has them
    return {parameter.name: getattr(parameter, "help", None) for parameter in command.params if parameter.name}


@pytest.mark.parametrize("words", [("campaign", "plan"), ("campaign", "start"), ("group", "save")])
def test_whatever_a_list_can_ask_selects_a_campaign_and_a_group_too(words: tuple[str, ...]) -> None:
    listed = options("device", "list")
    asked = Which if words == ("group", "save") else WhichOfGroup
    names = set(asked.__dataclass_fields__)
    assert set(listed) - {"limit", "as_json"} == set(WhichOfGroup.__dataclass_fields__)
    assert names <= set(listed)
    here = options(*words)
    assert {name: here[name] for name in names} == {name: listed[name] for name in names}
