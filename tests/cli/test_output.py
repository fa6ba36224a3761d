"""What commands print: whole values, as a table where it fits, else as blocks; evidence in words."""

from collections.abc import Iterator

import pytest
from rich.cells import cell_len

from birthmark_server.cli.evidence_words import describe
from birthmark_server.cli.output import Column, layout, show, show_one
from birthmark_server.domain import Evidence
from support.core import Core
from support.server import Clock, Installation

HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
ROWS = [("one", HASH), ("another", HASH[::-1])]
COLUMNS = (
    Column[tuple[str, str]]("name", lambda row: row[0], "red"),
    Column[tuple[str, str]]("hash", lambda row: row[1], lambda row: "dim"),
)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Core]:
    """A server's services, to which devices come."""
    with Installation.create(tmp_path_factory.mktemp("site")) as site:
        clock = Clock()
        with site.services(clock) as services:
            yield Core(site, services, clock)


def test_a_table_that_fits_has_a_line_for_each_row() -> None:
    lines = [line.plain for line in layout(ROWS, COLUMNS, width=80)]
    assert lines == ["name     hash", f"one      {HASH}", f"another  {HASH[::-1]}"]


def test_a_table_that_does_not_fit_becomes_blocks_of_whole_values() -> None:
    lines = [line.plain for line in layout(ROWS, COLUMNS, width=72)]
    assert lines == ["name  one", f"hash  {HASH}", "", "name  another", f"hash  {HASH[::-1]}"]


def test_columns_line_up_under_wide_characters_too() -> None:
    lines = layout([("工場", "a"), ("x", "b")], COLUMNS, width=None)
    assert [cell_len(line.plain) for line in lines] == [10, 7, 7]


def test_a_pipe_gets_whole_values_and_no_spaces_at_the_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    show(ROWS, COLUMNS, as_json=False, empty="")
    show_one(Evidence("kind", HASH, HASH * 2, ()), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert f"one      {HASH}" in lines
    assert f"roots version     {HASH * 2}" in lines
    assert all(line == line.rstrip() for line in lines)


def test_values_of_a_list_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    show_one({"keys": [HASH, HASH]}, as_json=False)
    assert capsys.readouterr().out == f"keys  {HASH}\n      {HASH}\n"


def test_a_birth_says_what_it_rested_on(core: Core) -> None:
    tpm, device_id = core.listed()
    core.enroll(tpm)
    ((at, evidence),) = core.store.device_evidence(device_id)
    words: dict[str, object] = dict(describe(at, evidence))
    assert "attested birth" in str(words["decision"])
    assert words["EK sha256"] == tpm.ek_sha256
    assert str(words["TPM manufacturer"]).startswith("id:")
    assert words["TPM roots version"] == evidence.roots_version
    assert {"verifier", "TPM model", "TPM version", "TPM firmware", "issued by", "trusted root"} <= set(words)
    assert str(words["PCRs quoted"])


def test_a_renewal_says_with_which_certificate_it_was_asked_for(core: Core) -> None:
    tpm, device_id = core.listed()
    core.first_ldevid(tpm, core.enroll(tpm), device_id)
    at, evidence = next(pair for pair in core.store.device_evidence(device_id) if pair[1].kind == "renewal")
    assert str(dict(describe(at, evidence))["asked with"]).startswith("O=")


def test_evidence_that_can_not_be_read_says_so(core: Core) -> None:
    told = dict(describe(core.clock(), Evidence("activation", "1", "2", (("policy", b"{"),))))
    assert "unreadable" in told


def test_an_operators_word_is_named(core: Core) -> None:
    told = dict(describe(core.clock(), Evidence("operator", "", "", (("operator", b"alice"),))))
    assert told["operator"] == "alice"
