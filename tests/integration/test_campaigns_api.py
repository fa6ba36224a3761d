"""Campaigns by REST at a real server: planned, started, steered and read. It has no broker, so nothing moves."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from birthmark_server.campaigns import CampaignEvent
from birthmark_server.roles import PROFILE_OF, Role
from birthmark_server.store.sql.store import SqlStore
from integration.conftest import LIMITS
from support.pki import Leaf
from support.server import Client, Installation, Reply, Server, now

JSON = "application/json"
DEVICES = [f"dev-c-{number}" for number in range(4)]
"""The last one has no operational certificate."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation.create(tmp_path_factory.mktemp("campaigns")) as installation:
        yield installation


@pytest.fixture(scope="module")
def people(site: Installation) -> dict[Role, Leaf]:
    return {role: site.infra(profile, f"the-{role}") for role, profile in PROFILE_OF.items()}


@pytest.fixture(scope="module")
def server(site: Installation) -> Iterator[Server]:
    """With its devices: c-0 and c-1 have the tag plant-7, c-1 the tag blue too; c-2 was renewed once."""
    with site.start(extra=LIMITS) as running:
        for number, device_id in enumerate(DEVICES):
            tpm = site.listed_device(f"C-{number}")
            born = running.enroll(tpm)
            if number < 3:
                ldevid = running.first_ldevid(tpm, born, device_id)
            if number == 2:
                running.renew(tpm, ldevid, device_id)
        for device_id, tags in (("dev-c-0", ["plant-7"]), ("dev-c-1", ["plant-7", "blue"])):
            site.store.change_tags(device_id, add=tags, remove=[])
        yield running


@pytest.fixture
def operator(server: Server, people: dict[Role, Leaf]) -> Iterator[Client]:
    with server.connect(people[Role.OPERATOR]) as client:
        yield client


def post(client: Client, path: str, body: object = None, **headers: str) -> Reply:
    return client.ask("POST", path, json.dumps({} if body is None else body).encode(), content_type=JSON, **headers)


def get(client: Client, path: str) -> Any:
    reply = client.ask("GET", path)
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def told(plan: Any) -> list[str]:
    return sorted(device_id for stage in plan["stages"] for device_id in stage)


def test_a_viewer_plans_and_nothing_is_kept(server: Server, people: dict[Role, Leaf]) -> None:
    with server.connect(people[Role.VIEWER]) as viewer:
        reply = post(viewer, "/v1/campaign-plans", {"strategy": {"canaries": 1, "stages": [50, 100]}})
        assert reply.status == 200, reply.body
        plan = json.loads(reply.body)
        assert told(plan) == DEVICES[:3]
        assert [len(stage) for stage in plan["stages"]] == [1, 1, 1]
        assert list(plan["left_out"]) == [DEVICES[3]]
        assert plan["left_out"][DEVICES[3]].startswith("unsupported: ")
        assert [hour["devices"] for hour in plan["forecast"]["hours"]] == [3]
        assert get(viewer, "/v1/campaigns") == {"items": [], "next": None}
        refused = post(viewer, "/v1/campaigns", {"name": "mine"})
        assert (refused.status, refused.code) == (403, "role-not-allowed")


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({}, [0, 1, 2]),
        ({"device_id": ["dev-c-2", "dev-c-0"]}, [0, 2]),
        ({"state": "active", "model": "model-a"}, [0, 1, 2]),
        ({"tag": ["plant-7"]}, [0, 1]),
        ({"tag": ["plant-7", "blue"]}, [1]),
        ({"group": "plants"}, [0, 1]),
        ({"group": "plants", "tag": ["blue"]}, [1]),
        ({"group": "plants", "expiring_before": "40d"}, [0, 1]),
        ({"expiring_before": "2099-01-01"}, [0, 1, 2]),
        ({"issued_by": "fleet"}, [0, 1, 2]),
        ({"never_rotated": True}, [0, 1]),
        ({"next_action": "renewal"}, [0, 1, 2]),
        ({"next_action": "renewal", "tag": ["blue"]}, [1]),
        ({"last_seen_before": "2099-01-01T00:00:00Z"}, [0, 1, 2]),
    ],
)
def test_every_filter_of_a_list_selects_a_campaign(
    operator: Client, site: Installation, selection: dict[str, Any], expected: list[int]
) -> None:
    post(operator, "/v1/groups", {"name": "plants", "query": {"tag": ["plant-7"]}})
    if "issued_by" in selection:
        selection = {"issued_by": site.pki.authority.fleet.name}
    reply = post(operator, "/v1/campaign-plans", {"selection": selection})
    assert reply.status == 200, reply.body
    assert told(json.loads(reply.body)) == [DEVICES[number] for number in expected]
    query = "&".join(
        f"{name}={str(one).lower() if one is True else one}"
        for name, value in selection.items()
        for one in (value if isinstance(value, list) else [value])
    )
    listed = [device["device_id"] for device in get(operator, f"/v1/devices?{query}")["items"]]
    assert [one for one in listed if one != DEVICES[3]] == [DEVICES[number] for number in expected]


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        ({"selection": {"model": "none-such"}}, 422, "bad-campaign", "the selection is empty"),
        ({"selection": {"device_id": ["dev-none"]}}, 422, "bad-campaign", "not on record"),
        ({"selection": {"device_id": ["dev-c-3"]}}, 422, "bad-campaign", "none of the 1 devices can be told now"),
        ({"selection": {"group": "none"}}, 404, "unknown-group", "no group 'none'"),
        ({"selection": {"issued_by": "fleet-1999"}}, 404, "unknown-issuer", "want one of"),
        ({"selection": {"tag": ["UPPER"]}}, 400, "malformed", "want 1 to 64"),
        ({"selection": {"tags": ["x"]}}, 400, "malformed", "is not known here"),
        ({"selection": {"expiring_before": "soon"}}, 400, "malformed", "want a span"),
        ({"strategy": {"success_percent": 101}}, 422, "bad-campaign", "success_percent: want 0 to 100, got 101"),
        ({"strategy": {"most_at_once": 10**30}}, 422, "bad-campaign", "most_at_once"),
        ({"strategy": {"stages": [10, 50]}}, 422, "bad-campaign", "rise to 100"),
        ({"strategy": {"windows": ["noon"]}}, 422, "bad-campaign", "window"),
        ({"strategy": {"rate": {"base": 1, "factor": 0.5, "most": 9}}}, 422, "bad-campaign", "rate"),
        ({"strategy": {"hold": "check"}}, 422, "bad-campaign", "needs its URL"),
        ({"strategy": {"hold": "check", "check_url": "file:///etc/passwd"}}, 422, "bad-campaign", "http"),
        ({"strategy": {"hold": "perhaps"}}, 400, "malformed", "hold"),
        ({"strategy": {"canaries": "five"}}, 400, "malformed", "canaries"),
        ({"strategy": {"canary": 5}}, 400, "malformed", "is not known here"),
        ({"name": "No Good"}, 422, "bad-campaign", "name: want"),
    ],
)
def test_what_can_not_be_started_is_said_and_nothing_is_kept(
    operator: Client, body: dict[str, Any], status: int, code: str, said: str
) -> None:
    before = get(operator, "/v1/campaigns")
    reply = post(operator, "/v1/campaigns", {"name": "bad", **body})
    assert (reply.status, reply.code) == (status, code), reply.body
    assert said in reply.body.decode()
    assert get(operator, "/v1/campaigns") == before


def test_a_campaigns_life_in_the_operators_name(operator: Client, site: Installation) -> None:
    body = {
        "name": "winter",
        "selection": {"tag": ["plant-7"], "expiring_before": "40d"},
        "strategy": {"canaries": 1, "hold": "approval", "windows": ["sat,sun 08:00-20:00"]},
    }
    made = post(operator, "/v1/campaigns", body, Idempotency_Key="winter-1")
    assert made.status == 201, made.body
    begun = json.loads(made.body)
    assert (begun["state"], begun["stage"], begun["created_by"]) == ("running", 1, "the-operator")
    assert (begun["total"]["queued"], len(begun["stages"])) == (2, 2)
    again = post(operator, "/v1/campaigns", body, Idempotency_Key="winter-1")
    assert (again.body, again.headers["Idempotency-Replayed"]) == (made.body, "true")
    assert post(operator, "/v1/campaigns", body).code == "already-exists"
    for verb, state in (("pause", "paused"), ("resume", "running")):
        steered = post(operator, f"/v1/campaigns/winter/{verb}", {"reason": "storm"})
        assert (steered.status, json.loads(steered.body)["state"]) == (200, state)
    early = post(operator, "/v1/campaigns/winter/approve")
    assert (early.status, early.code) == (409, "not-now")
    assert isinstance(site.store, SqlStore)
    site.store.campaigns.happen("winter", CampaignEvent.HELD, by="", at=now(), reason="before stage 2")
    assert get(operator, "/v1/campaigns/winter")["campaign"]["reason"] == "before stage 2"
    for verb, state in (("approve", "running"), ("retry", "running"), ("abort", "aborted")):
        assert json.loads(post(operator, f"/v1/campaigns/winter/{verb}").body)["state"] == state
    assert post(operator, "/v1/campaigns/winter/retry").code == "not-now"
    detail = get(operator, "/v1/campaigns/winter")
    assert [(one["event"], one["by"]) for one in detail["happenings"]] == [
        ("started", "the-operator"),
        ("paused", "the-operator"),
        ("resumed", "the-operator"),
        ("held", ""),
        ("approved", "the-operator"),
        ("retried", "the-operator"),
        ("aborted", "the-operator"),
    ]
    (selected,) = detail["selection"]
    assert selected["tags"] == ["plant-7"]
    assert selected["expiring_before"].endswith("Z")
    assert detail["strategy"]["windows"] == ["sat,sun 08:00-20:00"]
    first = get(operator, "/v1/campaigns/winter/devices?limit=1")
    rest = get(operator, f"/v1/campaigns/winter/devices?limit=1&cursor={first['next']}")
    assert rest["next"] is None
    assert [one["device_id"] for one in (*first["items"], *rest["items"])] == DEVICES[:2]
    assert {(one["state"], one["detail"]) for one in (*first["items"], *rest["items"])} == {("skipped", "aborted")}
    assert {one["stage"] for one in (*first["items"], *rest["items"])} == {1, 2}
    assert get(operator, "/v1/campaigns/winter/devices?state=done")["items"] == []
    assert operator.ask("GET", "/v1/campaigns/winter/devices?state=lost").code == "bad-query"


def test_campaigns_are_listed_newest_first_by_pages_and_filters(operator: Client) -> None:
    for name, device_id in (("one", "dev-c-0"), ("two", "dev-c-1"), ("three", "dev-c-0")):
        assert post(operator, "/v1/campaigns", {"name": name, "selection": {"device_id": [device_id]}}).status == 201
    post(operator, "/v1/campaigns/two/abort")
    seen, path = [], "/v1/campaigns?limit=1"
    while path:
        page = get(operator, path)
        seen += [one["campaign_id"] for one in page["items"]]
        path = f"/v1/campaigns?limit=1&cursor={page['next']}" if page["next"] else ""
    assert len(seen) == len(set(seen))
    assert {"one", "two", "three"} <= set(seen)
    begun = [one["created_at"] for one in get(operator, "/v1/campaigns")["items"]]
    assert begun == sorted(begun, reverse=True)
    running = [one["campaign_id"] for one in get(operator, "/v1/campaigns?state=running")["items"]]
    assert {"one", "three"} <= set(running)
    assert "two" not in running
    mine = [one["campaign_id"] for one in get(operator, "/v1/campaigns?device_id=dev-c-1&state=aborted")["items"]]
    assert "two" in mine
    assert "one" not in mine
    cursor = get(operator, "/v1/campaigns?limit=1")["next"]
    assert operator.ask("GET", f"/v1/campaigns?state=running&cursor={cursor}").code == "bad-cursor"


def test_a_campaign_that_is_not_there_is_said(operator: Client) -> None:
    for method, path in (
        ("GET", "/v1/campaigns/none"),
        ("GET", "/v1/campaigns/none/devices"),
        ("POST", "/v1/campaigns/none/pause"),
        ("POST", "/v1/campaigns/none/abort"),
    ):
        reply = post(operator, path) if method == "POST" else operator.ask(method, path)
        assert (reply.status, reply.code) == (404, "unknown-campaign"), path
    assert operator.ask("POST", "/v1/campaigns/none/explode", b"{}", content_type=JSON).status == 404


def test_thousands_of_devices_can_be_named(operator: Client) -> None:
    named = [f"dev-x-{number:058}" for number in range(9_999)]
    reply = post(operator, "/v1/campaign-plans", {"selection": {"device_id": [*named, "dev-c-0"]}})
    assert (reply.status, reply.code) == (422, "bad-campaign")
    assert "and 9994 more" in json.loads(reply.body)["detail"]
    reply = post(operator, "/v1/campaign-plans", {"selection": {"device_id": [*named, "dev-c-0", "dev-c-1"]}})
    assert (reply.status, reply.code) == (400, "malformed")
