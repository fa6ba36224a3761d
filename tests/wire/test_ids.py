"""Names that travel through certificates, topics, paths and shells."""

import pytest

from birthmark_wire import ids, topics
from birthmark_wire.errors import DecodeError


def test_a_devices_uri_is_its_spiffe_id() -> None:
    assert ids.device_uri("fleet.example.com", "edge-42") == "spiffe://fleet.example.com/device/edge-42"


def test_a_devices_topics_are_its_own() -> None:
    assert topics.up("edge-42", "hello") == "devices/edge-42/up/hello"
    assert topics.down("edge-42", "cmd") == "devices/edge-42/down/cmd"


@pytest.mark.parametrize("value", ["a", "0", "-", "edge-000042", "x" * 64, "srv"])
def test_a_device_id_passes(value: str) -> None:
    assert ids.device_id(value) == value


@pytest.mark.parametrize(
    "value", ["", "A", "a.b", "a_b", "a b", "a#", "a+", "a/b", "é", "x" * 65, "srv-", "srv-a", "a\n"]
)
def test_what_is_no_device_id_is_refused(value: str) -> None:
    with pytest.raises(DecodeError, match="device_id"):
        ids.device_id(value)


@pytest.mark.parametrize("value", ["SN-42", "A:B/C.D+E 9", "4", "x" * 64])
def test_a_printable_name_passes(value: str) -> None:
    assert ids.printable_name(value, field="serial") == value


@pytest.mark.parametrize("value", ["", " a", "-a", "a_b", "a,b", 'a"b', "a'b", "a;b", "é", "x" * 65, "a\n", "a\0"])
def test_what_a_dn_a_csv_or_a_shell_would_trip_over_is_refused(value: str) -> None:
    with pytest.raises(DecodeError, match="serial"):
        ids.printable_name(value, field="serial")


@pytest.mark.parametrize("value", ["", "A.b", "a_b", ".a", "a.", "a" * 64, ".".join(["a" * 63] * 4), "a:b", "a/b"])
def test_what_is_no_trust_domain_is_refused(value: str) -> None:
    with pytest.raises(DecodeError, match="trust_domain"):
        ids.trust_domain(value)
