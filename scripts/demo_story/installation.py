"""The server's side: set up by the same commands that an operator types, each shown as it is run."""

import csv
import io
import os
import pwd
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Final

from birthmark_server import cli
from birthmark_server.cli.exits import Exit
from birthmark_server.settings import Settings, load
from demo_story.fleet import FleetDevice
from demo_story.parts import Part, PartFailed, listens
from support.ports import free_port

_BIN: Final = Path(sys.executable).parent
BIRTHMARK: Final = _BIN / "birthmark"
BIRTHMARK_AGENT: Final = _BIN / "birthmark-agent"


class Installation:
    """One enrollment server and its broker, in `folder`. show: told each command before it runs."""

    def __init__(self, folder: Path, *, show: Callable[[str], None]) -> None:
        self.folder = folder.absolute()
        self.config = folder / "birthmark.toml"
        self.https_port = free_port()
        self.broker_port = free_port()
        self._show = show

    @property
    def url(self) -> str:
        """Of the enrollment server."""
        return f"https://localhost:{self.https_port}"

    @property
    def root_pem(self) -> Path:
        """What every device pins."""
        return self.folder / "ca" / "root.pem"

    def settings(self) -> Settings:
        """As the server reads them."""
        return load(self.config)

    def init(self) -> None:
        """`birthmark init --demo`, then this machine's free ports in the settings."""
        self.birthmark("init", str(self.folder), "--demo", "--organization", "Birthmark Demo", configured=False)
        text = self.config.read_text()
        for was, becomes in (
            ('# listen = "0.0.0.0:8443"', f'listen = "127.0.0.1:{self.https_port}"'),
            ("# port = 8883", f"port = {self.broker_port}"),
            ('# deny_file = ""', 'deny_file = "mosquitto/deny"'),
            ("# most_per_day = 24", "most_per_day = 1000"),
        ):
            if was not in text:
                raise PartFailed(f"the settings file has no line {was!r}")
            text = text.replace(was, becomes)
        self.config.write_text(text)

    def trust(self, vendor_root: Path, *, manufacturer: str) -> None:
        """Believe the emulator's manufacturer. Here, in plain sight, and nowhere else."""
        self.birthmark(
            "tpm-roots", "add", "emulator", str(vendor_root), "--name", "swtpm (demo)", "--manufacturer", manufacturer
        )

    def expect(self, devices: Sequence[FleetDevice]) -> None:
        """Add the devices' models and import their manifest."""
        self.add_models(devices)
        manifest = self.folder / "manifest.csv"
        manifest.write_text(_manifest(devices))
        self.birthmark("manifest", "import", str(manifest), "--operator", str(self.alice))

    def add_models(self, devices: Sequence[FleetDevice]) -> None:
        """Add the devices' models: which of a TPM's EKs identifies one."""
        for model in dict.fromkeys(device.model for device in devices):
            self.birthmark("model", "add", model.name, "--ek", model.ek_template)

    @property
    def alice(self) -> Path:
        """The security officer that `init` made: certificate and key."""
        return self.folder / "operators" / "alice.pem"

    def serve(self) -> Part:
        """Start `birthmark serve` and wait until it listens."""
        self._show(self._line("serve"))
        part = Part("birthmark serve", [BIRTHMARK, "--config", self.config, "serve"], log=self.folder / "server.log")
        part.wait_until(lambda: listens(self.https_port), timeout_s=20)
        return part

    def broker(self) -> Part:
        """Write Mosquitto's configuration, start it, and wait until it listens."""
        mosquitto = self.folder / "mosquitto"
        user = pwd.getpwuid(os.geteuid()).pw_name
        self.birthmark("broker", "config", str(mosquitto), "--address", "127.0.0.1", "--user", user, "--no-trial")
        self._show("mosquitto -c server/mosquitto/mosquitto.conf")
        part = Part(
            "mosquitto",
            [_mosquitto(), "-c", mosquitto / "mosquitto.conf"],
            log=self.folder / "mosquitto.log",
            env={"OPENSSL_CONF": str(mosquitto / "openssl.cnf")},
        )
        part.wait_until(lambda: listens(self.broker_port), timeout_s=20)
        return part

    def add_fleet_ca(self, label: str) -> None:
        """Ask for one more Fleet CA, have the root sign it, and take it in: this plays the root's machine too."""
        ca, root = self.folder / "ca", self.folder / "ca" / "root"
        request, secret = ca / f"fleet-{label}.csr", f"file:{self.folder / 'ca.passphrase'}"
        add = ("init", str(self.folder), "--add", "fleet")
        self.birthmark(*add, "--label", label, configured=False)
        sign = ("root", "sign", str(request), "--kind", "fleet", "--folder", str(root))
        out = str(root / f"fleet-{label}.pem")
        self.birthmark(*sign, "--out", out, "--passphrase", secret, configured=False)
        self.birthmark(*add, "--signed", str(root), configured=False)

    def birthmark(self, *words: str, configured: bool = True) -> str:
        """Run one `birthmark` command, in this process for speed, and return what it printed; raise PartFailed."""
        self._show(self._line(*words))
        return self.ask(*words, configured=configured)

    def ask(self, *words: str, configured: bool = True) -> str:
        """Run a command without showing it, as one that is asked again and again; raise PartFailed."""
        status, said = self._run(words, configured=configured)
        if status != 0:
            raise PartFailed(f"birthmark {shlex.join(words)} ended with {status}:\n{said}")
        return said

    def refused(self, *words: str) -> str:
        """Run a command that must be refused as things stand, and return why it was; raise PartFailed if it was not."""
        self._show(self._line(*words))
        status, said = self._run(words)
        if status != Exit.CANT_CREATE:
            raise PartFailed(f"birthmark {shlex.join(words)} ended with {status}, want {Exit.CANT_CREATE}:\n{said}")
        return said.strip()

    def _run(self, words: Sequence[str], *, configured: bool = True) -> tuple[int, str]:
        out = io.StringIO()
        argv = [*(["--config", str(self.config)] if configured else []), *words]
        with redirect_stdout(out), redirect_stderr(out):
            status = cli.run(lambda: cli.application()(argv, prog_name="birthmark"))
        if status == Exit.INTERRUPTED:
            raise KeyboardInterrupt  # the person meant the story, not this command
        return status, out.getvalue()

    def _line(self, *words: str) -> str:
        """Return a command as one would type it, with BIRTHMARK_CONFIG set and paths short."""
        return shlex.join(["birthmark", *words]).replace(f"{self.folder.parent}/", "")


def _manifest(devices: Iterable[FleetDevice]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["serial", "model", "ek_sha256", "device_id"])
    writer.writerows([device.serial, device.model.name, device.ek_sha256, device.device_id] for device in devices)
    return text.getvalue()


def _mosquitto() -> str:
    from birthmark_server.broker.trial import find_mosquitto

    return find_mosquitto()
