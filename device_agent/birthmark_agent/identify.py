"""`birthmark-agent identify`: who this device is, for the station that makes it (birthmark_wire.factory).

Asks the TPM and nobody else: the server may be out of reach, and does not expect this device yet. Which of the TPM's
EKs it names is the setting `tpm.ek_template`; without one, the first of _PREFERENCE that the TPM has a certificate for.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from birthmark_agent.birth import NoEndorsement
from birthmark_agent.csr import Names, birth_names, build_request
from birthmark_agent.der import sequence
from birthmark_agent.tpm_protocol import DeviceTpm, KeyT
from birthmark_agent.version import AGENT
from birthmark_wire import tpm_templates
from birthmark_wire.enrollment import MAX_EK_CERTIFICATES
from birthmark_wire.factory import DeviceIdentity

_PREFERENCE: Final = ("p256", "p384", "rsa2048")
"""An RSA EK that is not persistent takes a TPM seconds to make."""
_NETWORK: Final = Path("/sys/class/net")
_NAMELESS: Final = Names(sequence(), b"")


def identify(
    tpm: DeviceTpm[KeyT], *, ek_template: str = "", serial: str = "", network: Path = _NETWORK
) -> DeviceIdentity:
    """Return who this is. serial: the name in the request; empty for none. network: sysfs's folder of interfaces.

    Raises TpmError; NoEndorsement where the TPM has no EK certificate and no template is set.
    """
    certificates = tpm.endorsement_certificates()
    template = ek_template or _certified(dict(certificates))
    with tpm.primary(tpm_templates.AK) as ak, tpm.primary(tpm_templates.BIRTH_KEY) as key:
        return DeviceIdentity(
            ek_certificates=tuple(der for _index, der in certificates)[:MAX_EK_CERTIFICATES],
            ek_public=tpm.ek_public(template),
            ak_public=ak.public,
            csr=build_request(key, birth_names(serial) if serial else _NAMELESS),
            firmware=AGENT,
            mac=next(_macs(network), ""),
        )


def _certified(certificates: dict[int, bytes]) -> str:
    for template in _PREFERENCE:
        if tpm_templates.EK_CERTIFICATE_NV[template] in certificates:
            return template
    raise NoEndorsement("the TPM holds no EK certificate of a template that is known")


def _macs(network: Path) -> Iterator[str]:
    """Yield the address of each interface that is a device of its own (a card, not a bridge or lo), by name."""
    for interface in sorted(network.iterdir()) if network.is_dir() else ():
        if (interface / "device").exists():
            address = (interface / "address").read_text("ascii").strip().lower()
            if len(address) == len("00:00:00:00:00:00") and address != "00:00:00:00:00:00":
                yield address
