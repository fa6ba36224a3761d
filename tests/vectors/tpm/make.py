"""Makes the TPM vectors: see ../README.md. Needs swtpm. No private key is in them; the CA's was thrown away."""

import json
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import hashes

from attestation.enrolling import begin
from attestation.test_against_swtpm import answer_of, request_of, roots_of, swtpm_files
from birthmark_agent.tpm.device import Tpm
from birthmark_server.domain import DeviceModel
from birthmark_server.tpm.credential import kdfa, kdfe, protect
from support.swtpm import VendorCa

HERE = Path(__file__).parent


def write(name: str, value: object) -> None:
    """Write one vector."""
    (HERE / name).write_text(json.dumps(value, indent=1) + "\n")


def birth(tpm: Tpm, vendor: VendorCa, ek: str) -> dict[str, object]:
    """Run one enrollment and return its evidence with the trust store that judged it."""
    model = DeviceModel(name="gateway", ek_template=ek, quote_pcrs=(0, 7))
    exchange = begin(request_of(tpm, ek), roots_of(vendor), model=model, now=datetime.now(UTC))
    device = exchange.judge(answer_of(tpm, exchange))
    evidence = asdict(device.evidence)
    evidence["parts"] = [[name, value.hex()] for name, value in device.evidence.parts]
    return {
        "evidence": evidence,
        "trust_store": {path: data.hex() for path, data in swtpm_files(vendor).items()},
        "ek_sha256": device.ek_sha256,
        "birth_spki": device.birth_spki.hex(),
        "firmware_version": device.firmware_version,
    }


def credentials() -> list[dict[str, object]]:
    """Return what a fixed seed makes of a fixed secret."""
    seed, name, secret = bytes(range(48)), b"\x00\x0b" + bytes(range(32)), b"s" * 32
    vectors = []
    for algorithm, aes_bits in ((hashes.SHA256(), 128), (hashes.SHA384(), 256)):
        size = algorithm.digest_size
        vectors.append(
            {
                "hash": algorithm.name,
                "aes_bits": aes_bits,
                "seed": seed[:size].hex(),
                "name": name.hex(),
                "secret": secret.hex(),
                "id_object": protect(seed[:size], name, secret, algorithm=algorithm, aes_bits=aes_bits).hex(),
                "kdfa_storage": kdfa(algorithm, seed[:size], b"STORAGE\0", name, b"", aes_bits).hex(),
                "kdfe_identity": kdfe(algorithm, b"z" * size, b"IDENTITY\0", b"u" * size, b"v" * size, 8 * size).hex(),
            }
        )
    return vectors


def main() -> None:
    """Make them all."""
    write("credential.json", credentials())
    with tempfile.TemporaryDirectory() as folder:
        vendor = VendorCa.create(Path(folder) / "vendor")
        made = vendor.make(Path(folder) / "tpm")
        with made.running(), Tpm.open(made.tcti) as tpm:
            for ek in ("rsa2048", "p384"):
                write(f"birth-{ek}.json", birth(tpm, vendor, ek))
        made.close()


if __name__ == "__main__":
    main()
