"""What a decision rested on, in words. Read from the evidence that was kept; nothing is judged again here
(attestation/replay.py does that), so what it says is what the device showed and the verifier accepted then."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from birthmark_server.attestation.certificate import Certificate, describe_name, parse_certificate
from birthmark_server.attestation.ek import TPM_MANUFACTURER, TPM_MODEL, TPM_VERSION, strip_nv
from birthmark_server.attestation.evidence import ACTIVATION, RENEWAL
from birthmark_server.attestation.vendor import write_firmware
from birthmark_server.cli.output import moment
from birthmark_server.domain import Evidence
from birthmark_server.errors import BirthmarkError
from birthmark_server.tpm.attest import parse_attest
from birthmark_server.tpm.public import parse_public
from birthmark_wire.enrollment import EnrollRequest
from birthmark_wire.errors import DecodeError
from birthmark_wire.tpm_templates import EK_TEMPLATES

Words = Iterator[tuple[str, object]]

_TITLES: Final = {
    ACTIVATION: "attested birth: the TPM proved its EK, its AK and the birth key",
    RENEWAL: "renewal: the AK on record vouched for a new key",
    "operator": "no TPM evidence: an operator vouched for the key",
}


def describe(at: datetime, evidence: Evidence) -> Words:
    """Yield what stands in the evidence of one decision, as names and values for a person."""
    parts = dict(evidence.parts)
    yield "decision", f"{moment(at)}  {_TITLES.get(evidence.kind, evidence.kind)}"
    if evidence.verifier_version:
        yield "verifier", evidence.verifier_version
    if evidence.roots_version:
        yield "TPM roots version", evidence.roots_version
    try:
        match evidence.kind:
            case "activation":
                yield from _activation(evidence, parts)
            case "renewal":
                yield from _renewal(parts)
            case "operator":
                yield "operator", parts["operator"].decode()
    except (BirthmarkError, DecodeError, ValueError, KeyError) as error:
        yield "unreadable", f"{type(error).__name__}: {error}"


def _activation(evidence: Evidence, parts: dict[str, bytes]) -> Words:
    policy = json.loads(parts["policy"])
    request = EnrollRequest.decode(parts["request"])
    yield "EK template", policy["ek_template"]
    certificate = _ek_certificate(request, policy["ek_template"])
    if certificate is None:
        yield "EK certificate", "none was shown: the manifest names the EK"
    else:
        yield from _certificate(certificate)
    if "root" in parts:
        for name, data in evidence.parts:
            if name == "intermediate":
                yield "below", parse_certificate(data).title
        yield "trusted root", parse_certificate(parts["root"]).title
    else:
        yield "trusted root", "none: the EK is believed because the manifest lists it"
    yield "TPM firmware", write_firmware(parse_attest(parts["certify"]).firmware_version)
    yield "PCRs quoted", ", ".join(map(str, policy["quote_pcrs"])) or "none: the model asks for none"
    if parts.get("batch"):
        yield "let in by batch", parts["batch"].decode()
    yield "asked from", (parts.get("station") or parts["source"]).decode()
    yield "agent", request.agent


def _certificate(certificate: Certificate) -> Words:
    names = dict(certificate.directory_names)
    manufacturer = names.get(TPM_MANUFACTURER, "")
    yield "TPM manufacturer", f"{manufacturer}{_letters(manufacturer)}" if manufacturer else "unnamed"
    yield "TPM model", names.get(TPM_MODEL)
    yield "TPM version", names.get(TPM_VERSION)
    yield "EK sha256", certificate.key_sha256
    yield "EK certificate", certificate.title or "without a subject, as the TCG allows"
    yield "issued by", describe_name(certificate.issuer)
    yield "valid", f"{moment(certificate.not_before)} to {moment(certificate.not_after)}"


def _renewal(parts: dict[str, bytes]) -> Words:
    if parts.get("job-id"):
        yield "job", parts["job-id"].decode()
    if parts.get("client-certificate"):
        yield "asked with", parse_certificate(parts["client-certificate"]).title


def _ek_certificate(request: EnrollRequest, template: str) -> Certificate | None:
    wanted = parse_public(EK_TEMPLATES[template])
    shown = (parse_certificate(strip_nv(data)) for data in request.ek_certificates)
    return next((certificate for certificate in shown if wanted.fits(certificate.key)), None)


def _letters(manufacturer: str) -> str:
    """Return the letters that a manufacturer's id stands for: `id:49465800` is IFX (TCG Vendor ID Registry)."""
    try:
        text = bytes.fromhex(manufacturer.removeprefix("id:")).rstrip(b"\0 ").decode("ascii")
    except ValueError:
        return ""
    return f" ({text})" if text.isprintable() and text else ""
