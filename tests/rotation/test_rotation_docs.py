"""docs/campaigns.md says what the tables say: its diagrams are drawn from them.

`PYTHONPATH=tests python tests/rotation/test_rotation_docs.py` draws them anew.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from birthmark_server.campaigns import CAMPAIGN_TRANSITIONS, OF_JOB, CampaignState
from birthmark_server.jobs import ENDED, TRANSITIONS, JobEvent, JobState

DOCUMENT = Path(__file__).parents[2] / "docs" / "campaigns.md"
MARKED = re.compile(r"<!-- ([a-z-]+) -->\n(.*?)<!-- /\1 -->", re.DOTALL)


def job_states() -> str:
    lines = ["stateDiagram-v2", "    [*] --> waiting"]
    lines += [f"    {before} --> {after}: {event.value}" for (before, event), after in TRANSITIONS.items()]
    lines += [f"    {state} --> [*]" for state in JobState if state in ENDED]
    return "```mermaid\n" + "\n".join(lines) + "\n```\n"


def campaign_states() -> str:
    lines = ["stateDiagram-v2", "    [*] --> running: started"]
    lines += [f"    {before} --> {after}: {event}" for (before, event), after in CAMPAIGN_TRANSITIONS.items()]
    lines += ["    aborted --> [*]", "    done --> [*]"]
    return "```mermaid\n" + "\n".join(lines) + "\n```\n"


def outcomes() -> str:
    rows = ["| job | device in the campaign |", "| --- | --- |"]
    return "\n".join([*rows, *(f"| {job} | {device} |" for job, device in OF_JOB.items())]) + "\n"


BLOCKS: dict[str, Callable[[], str]] = {
    "job-states": job_states,
    "campaign-states": campaign_states,
    "outcomes": outcomes,
}


@pytest.mark.parametrize("block", BLOCKS)
def test_the_block_is_as_the_tables_are(block: str) -> None:
    found = {match[1]: match[2] for match in MARKED.finditer(DOCUMENT.read_text())}
    assert found[block] == BLOCKS[block](), "PYTHONPATH=tests python tests/rotation/test_rotation_docs.py"


def test_every_state_and_event_is_in_a_table() -> None:
    assert {state for state, _ in TRANSITIONS} | set(TRANSITIONS.values()) == set(JobState)
    assert {event for _, event in TRANSITIONS} == set(JobEvent)
    assert set(OF_JOB) == set(JobState)
    assert {state for state, _ in CAMPAIGN_TRANSITIONS} | set(CAMPAIGN_TRANSITIONS.values()) == set(CampaignState)


if __name__ == "__main__":
    text = MARKED.sub(lambda m: f"<!-- {m[1]} -->\n{BLOCKS[m[1]]()}<!-- /{m[1]} -->", DOCUMENT.read_text())
    DOCUMENT.write_text(text)
