"""The bill of materials: each package in the image with its version, hash and package URL. CycloneDX 1.4, JSON.

Debian packages are named as they were fetched, with the hash of their files, the agent's Python packages likewise. The
serial number comes from the image: the same image has the same bill.
"""

import json
from datetime import datetime
from urllib.parse import quote

from birthmark_server.factory.image.base import Base
from birthmark_server.factory.image.packages import Package
from birthmark_server.factory.image.spec import ImageSpec

AGENT_NAME = "birthmark-agent"


def write(spec: ImageSpec, base: Base, *, agent_version: str, image_sha256: str, built_at: datetime) -> bytes:
    """Return the document. image_sha256: of device.img. The agent's hash is over its files, as base.py has it."""
    components: list[dict[str, object]] = [
        {
            "type": "application",
            "bom-ref": AGENT_NAME,
            "name": AGENT_NAME,
            "version": agent_version,
            "hashes": _hashes(base.agent_sha256),
        },
        *(
            _component(f"pkg:pypi/{quote(one.name)}@{quote(one.version)}", one.name, one.version, one.sha256)
            for one in base.python
        ),
        *(_component(_purl(one), one.name, one.version, one.sha256) for one in base.debian),
    ]
    image = {
        "type": "firmware",
        "bom-ref": "image",
        "name": spec.model,
        "version": spec.version,
        "hashes": _hashes(image_sha256),
    }
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.4",
        "serialNumber": f"urn:uuid:{spec.uuid('sbom ' + image_sha256)}",
        "version": 1,
        "metadata": {
            "timestamp": f"{built_at:%Y-%m-%dT%H:%M:%SZ}",
            "tools": [{"vendor": "Birthmark", "name": "birthmark image build", "version": agent_version}],
            "component": image,
        },
        "components": components,
        "dependencies": [{"ref": "image", "dependsOn": [str(one["bom-ref"]) for one in components]}],
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _purl(package: Package) -> str:
    """Source: github.com/package-url/purl-spec, type deb."""
    return f"pkg:deb/debian/{quote(package.name)}@{quote(package.version)}?arch={package.architecture}"


def _component(purl: str, name: str, version: str, digest: str) -> dict[str, object]:
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": _hashes(digest),
    }


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]
