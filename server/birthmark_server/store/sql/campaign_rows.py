"""A campaign's row, and what of it changes: what all that is done with campaigns writes and reads alike."""

from datetime import datetime
from typing import Final

from pydantic import TypeAdapter
from sqlalchemy import bindparam, update

from birthmark_server.campaigns import Campaign, CampaignEvent, CampaignState, Strategy
from birthmark_server.fleet import Selector
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import UnknownCampaign
from birthmark_server.store.job_tables import CampaignEvents, CampaignMembers, Campaigns, CampaignStages
from birthmark_server.store.rows import from_us, from_us_or_none, to_us, to_us_or_none
from birthmark_server.store.statement import Row, Statement, Value, insert_all
from birthmark_server.store.tables import table_of

CAMPAIGNS: Final = table_of(Campaigns)
MEMBERS: Final = table_of(CampaignMembers)
STAGES: Final = table_of(CampaignStages)
EVENTS: Final = table_of(CampaignEvents)
COLUMNS: Final = tuple(one for one in CAMPAIGNS.columns if one.name not in ("looked_at_us", "check_at_us"))
_SELECTOR: Final = TypeAdapter(Selector)
_STRATEGY: Final = TypeAdapter(Strategy)
_INSERT: Final = insert_all(CAMPAIGNS)
_INSERT_EVENT: Final = insert_all(EVENTS)
_CHANGE: Final = Statement(
    update(CAMPAIGNS)
    .where(CAMPAIGNS.c.campaign_id == bindparam("key"))
    .values(
        {
            name: bindparam(name)
            for name in (
                "state",
                "stage",
                "approved",
                "opened_at_us",
                "rollout_at_us",
                "ended_at_us",
                "reason",
                "revision",
            )
        }
    )
)


def insert_campaign(tx: Transaction, campaign: Campaign) -> bool:
    """Return False where there is one of that name."""
    values = {
        "campaign_id": campaign.campaign_id,
        "selector": _SELECTOR.dump_json(campaign.selector).decode(),
        "strategy": _STRATEGY.dump_json(campaign.strategy).decode(),
        "created_by": campaign.created_by,
        "created_at_us": to_us(campaign.created_at),
        "looked_at_us": 0,
        "check_at_us": 0,
        **_changing(campaign),
    }
    return tx.run(_INSERT, **values) == 1


def found(row: Row | None, campaign_id: str) -> Campaign:
    if row is None:
        raise UnknownCampaign(f"no campaign {campaign_id!r}")
    return campaign_from(row)


def campaign_from(row: Row) -> Campaign:
    return Campaign(
        campaign_id=row[0],
        state=CampaignState(row[1]),
        selector=_SELECTOR.validate_json(row[2]),
        strategy=_STRATEGY.validate_json(row[3]),
        created_by=row[4],
        created_at=from_us(row[5]),
        stage=row[6],
        approved=row[7],
        opened_at=from_us_or_none(row[8]),
        rollout_at=from_us_or_none(row[9]),
        ended_at=from_us_or_none(row[10]),
        reason=row[11],
        revision=row[12],
    )


def _changing(campaign: Campaign) -> dict[str, Value]:
    return {
        "state": campaign.state.value,
        "stage": campaign.stage,
        "approved": campaign.approved,
        "opened_at_us": to_us_or_none(campaign.opened_at),
        "rollout_at_us": to_us_or_none(campaign.rollout_at),
        "ended_at_us": to_us_or_none(campaign.ended_at),
        "reason": campaign.reason,
        "revision": campaign.revision,
    }


def write_campaign(tx: Transaction, campaign: Campaign) -> None:
    tx.run(_CHANGE, key=campaign.campaign_id, **_changing(campaign))


def note_event(tx: Transaction, campaign: Campaign, event: CampaignEvent, *, by: str, at: datetime) -> None:
    tx.run(
        _INSERT_EVENT,
        campaign_id=campaign.campaign_id,
        revision=campaign.revision,
        at_us=to_us(at),
        event=event.value,
        happened_by=by,
        reason=campaign.reason,
    )
