"""A blank board becomes a unit: flashed through MCUboot, born at a real server by way of its own TPM, locked."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from birthmark_server.domain import ManifestEntry
from birthmark_server.factory.smp.agent import AgentServer
from birthmark_server.factory.smp.client import SmpBoard
from birthmark_server.factory.smp.image import read_image_key
from birthmark_server.factory.smp.target import SmpTarget
from birthmark_wire.factory import ProvisionRecord
from factory.smp.desk import StoreDesk
from support.agent_site import MODEL, AgentSite, ek_sha256
from support.firmware import Firmware
from support.mcu_board import McuBoard
from support.server import now
from support.tpm_stock import TpmStock

pytestmark = [pytest.mark.parts, pytest.mark.timeout(240)]  # builds the firmware, and boots a board under load

SERIAL = "unit-1"
LIMIT = timedelta(seconds=120)


def test_a_blank_board_becomes_a_unit(firmware: Firmware, stock: TpmStock, tmp_path: Path) -> None:
    image = firmware.image("1.2.0")
    private = load_pem_private_key(firmware.key.read_bytes(), None)
    public = tmp_path / "image.pem"
    public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with AgentSite.create(tmp_path / "site", stock=stock) as site, site.server():
        here = site.installation
        with stock.copy(1, tmp_path / "tpm").running() as tpm:
            here.store.import_manifest(
                [ManifestEntry(ek_sha256(tpm), SERIAL, MODEL.name, f"dev-{SERIAL}", "test", now())]
            )
            with McuBoard.running_in(tmp_path / "board", tpm=tpm) as board:
                target = SmpTarget(
                    board.address,
                    serial=SERIAL,
                    folder=tmp_path / "unit",
                    key=read_image_key(public),
                    server=AgentServer(f"https://localhost:{here.port}", here.pki.root_pem, MODEL.ek_template),
                    desk=StoreDesk(here.store),
                )
                target.flash(image, ProvisionRecord(SERIAL, MODEL.name, "W-1", "station-1"), lambda done, total: None)
                assert target.identify(limit=LIMIT).firmware == "firmware/1.2.0"
                assert target.attest(limit=LIMIT).device_id == f"dev-{SERIAL}"
                target.lock()
                target.close()
                with SmpBoard.open(board.address) as smp:
                    who = smp.enrollment.identify()
                assert who is not None
                assert (who.serial, who.mode) == (SERIAL, "locked")
