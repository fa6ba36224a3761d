"""`scripts/bench fleet`: every part of it runs, on real parts, and what it prints. No timing means anything here."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from sqlalchemy import select

from benchmark import bare, bulk, half_done, rotation_floor
from benchmark.campaign_growth import CampaignGrowth
from benchmark.crl import CrlCost
from benchmark.cut import Cuts
from benchmark.fleet_report import FleetFigures, lines, table
from benchmark.ocsp import OcspRate
from benchmark.rotate import Rotate
from birthmark_server.campaigns import Campaign, CampaignState, Count, Strategy
from birthmark_server.store.sql.store import SqlStore
from birthmark_server.store.tables import Certificates, table_of
from support import mqtt_wire
from support.cut import Spread, spread
from support.pki import make_pki
from support.server import Installation, now

ROOT = Path(__file__).parents[2]
KEYS = {
    "rotate": {"devices_per_s", "server_cpu_ms", "cpu_over_crypto", "messages_per_device"},
    "revoke": {"cut_p50_ms", "cut_p99_ms"},
    "growth": {"campaign_100k_over_1k"},
    "crl": {"entries", "seconds", "peak_mib"},
    "ocsp": {"per_s", "over_openssl"},
    "server": {"rss_mb_at_100k"},
}


def figures() -> FleetFigures:
    took = Spread(10.0, 90.0, 95.0)
    return FleetFigures(
        rotate=Rotate(100, 50.0, 2.0, 7.0, 0, (bare.Operation("sign", 2, 250.0),)),
        revoke=Cuts(5000, 50, took, took, took, 10, 210),
        growth=CampaignGrowth(1000, 100_000, 0.1, 0.1, 4.0, 4.4, 1.1, 180.0, 200.0),
        crl=CrlCost(1000, 1.0, 1.0, 100.0, 4.0, 4.0, 500.0),
        ocsp=OcspRate(9000, 1400, 3900, 2.3, 0.36),
    )


@pytest.mark.parts
@pytest.mark.timeout(600)
def test_everything_runs_and_the_json_has_the_agreed_keys_and_types() -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "benchmark", "fleet", "--quick", "--json"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {name: set(values) for name, values in told.items()} == KEYS
    assert all(isinstance(value, int | float) and value > 0 for values in told.values() for value in values.values())
    assert isinstance(told["crl"]["entries"], int)


def test_json_has_the_same_keys_from_figures_alone() -> None:
    told = figures().as_json()
    assert {name: set(values) for name, values in told.items()} == KEYS
    assert told["rotate"]["cpu_over_crypto"] == 4.0
    assert FleetFigures(crl=figures().crl).as_json().keys() == {"crl"}


def test_table_says_which_aims_are_met() -> None:
    shown = figures()
    assert table(shown).row_count == len(lines(shown))
    ocsp = {line.what: line for line in lines(shown) if line.least is not None}
    assert list(ocsp) == ["ocsp: pre-signed over openssl"]
    verdicts = [str(cell) for cell in table(shown).columns[3].cells]
    assert "missed" not in verdicts
    shown.rotate = Rotate(100, 50.0, 2.1, 7.0, 0, (bare.Operation("sign", 2, 250.0),))
    assert [str(cell) for cell in table(shown).columns[3].cells].count("missed") == 1


def test_percentiles_are_by_nearest_rank() -> None:
    assert spread([float(number) for number in range(1, 201)]) == Spread(100.5, 198.0, 200.0)
    assert spread([3.0]) == Spread(3.0, 3.0, 3.0)


def test_floor_of_a_rotation_names_every_operation(tmp_path: Path) -> None:
    floor = rotation_floor.rotation_floor(make_pki(tmp_path / "ca"), runs=1)
    assert [operation.times for operation in floor] == [1, 1, 2, 1, 1, 1]
    assert all(operation.cpu_us > 0 for operation in floor)


def test_provisioned_devices_are_on_record_with_what_they_hold(tmp_path: Path) -> None:
    with Installation.create(tmp_path) as site:
        devices = bulk.provision(site, 12)
        assert not site.store.check()
        assert len({device.serial for device in devices}) == 12
        for device in devices:
            on_record = site.store.device_certificates(device.device_id)
            assert device.identity.der in {record.der for record in on_record}
            assert site.store.get_device(device.device_id).ak_public == device.tpm.ak.public.encode()


def test_a_stage_that_is_written_down_as_done_is_done_for_the_server(tmp_path: Path) -> None:
    with Installation.create(tmp_path) as site:
        bulk.fill(site, 10)
        store = site.store
        assert isinstance(store, SqlStore)
        ids = [device.device_id for device in store.list_devices()]
        campaign = Campaign("c", CampaignState.RUNNING, (), Strategy(), "alice", now())
        store.campaigns.add_campaign(campaign, [ids[:6], ids[6:]])
        at_us = int(now().timestamp()) * 1_000_000
        assert half_done.finish_stage(site, "c", 0, at_us=at_us) == 6
        assert store.campaigns.counts("c") == (Count(done=6), Count(queued=4))
        standing = [member.state.value for member in store.campaigns.members("c")]
        assert sorted(standing) == ["done"] * 6 + ["queued"] * 4
        assert not store.check()
        with bulk.database(site) as connection:
            revoked = select(table_of(Certificates)).where(table_of(Certificates).c.revoked_at_us.is_not(None))
            assert len(connection.execute(revoked).all()) == 6


# -- the few packets


def packets(received: bytes, cuts: Iterable[int]) -> list[tuple[int, int, bytes]]:
    """What comes out if the bytes arrive in pieces that end at `cuts`."""
    buffer, found, begin = bytearray(), [], 0
    for end in (*cuts, len(received)):
        buffer += received[begin:end]
        found += list(mqtt_wire.split(buffer))
        begin = end
    assert not buffer
    return found


def test_packets_come_out_whole_however_they_arrive() -> None:
    long = mqtt_wire.publish(7, "devices/dev-1/down/cmd", b"x" * 300)
    received = b"\x20\x03\x00\x00\x00" + long + mqtt_wire.puback(9)
    whole = packets(received, ())
    assert [kind for kind, _, _ in whole] == [mqtt_wire.CONNACK, mqtt_wire.PUBLISH, mqtt_wire.PUBACK]
    for cut in range(1, len(received)):
        assert packets(received, (cut,)) == whole
    _, flags, body = whole[1]
    assert mqtt_wire.read_publish(flags, body) == ("devices/dev-1/down/cmd", 7, b"x" * 300)
    ((_, flags, body),) = packets(mqtt_wire.publish(0, "a", b"y"), ())
    assert mqtt_wire.read_publish(flags, body) == ("a", 0, b"y")


def test_reasons_are_read_where_they_stand() -> None:
    assert mqtt_wire.reason(mqtt_wire.CONNACK, b"\x00\x87\x00") == 135
    assert mqtt_wire.reason(mqtt_wire.PUBACK, b"\x00\x01") == 0
    assert mqtt_wire.reason(mqtt_wire.PUBACK, b"\x00\x01\x87") == 135
    assert mqtt_wire.reason(mqtt_wire.SUBACK, b"\x00\x01\x00\x01") == 1
    assert mqtt_wire.reason(mqtt_wire.DISCONNECT, b"\x98") == 152
