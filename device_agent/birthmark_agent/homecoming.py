"""The ways home, cheapest first: how a device gets, or gets back, an operational identity.

    slots        the current slot, then the other: nothing to ask anybody
    birth        the birth certificate, from disk or from the TPM's NV: EST simpleenroll
    attestation  prove the TPM again: the server gives back the same birth certificate, or a new one; then as above

A way that is refused leads to the next one. A way that can't be walked now (no network, server busy, TPM busy) does
not: the agent waits and begins again, for a cheaper way may be open by then. Every way can be walked twice: nothing is
lost when the power goes in between.

Exchanges with the server, and the TPM's part in them, are done apart (apart.py); what they give is kept here, on disk.
"""

from dataclasses import replace
from typing import Final

from birthmark_agent import csr, log
from birthmark_agent.apart import apart
from birthmark_agent.birth import BirthRecord
from birthmark_agent.errors import AgentError, IdentityDamaged, KeyNotOfThisTpm, TlsKeyFailed, UnusableAnswer
from birthmark_agent.http import Refused, TlsFailed
from birthmark_agent.identity import Identities
from birthmark_agent.slots import Identity, Operational, Slot
from birthmark_agent.trust_updates import TrustUpdates
from birthmark_agent.version import AGENT
from birthmark_wire.broker import BrokerEndpoint

_NOT_THIS_WAY: Final = (Refused, IdentityDamaged, KeyNotOfThisTpm, TlsKeyFailed, UnusableAnswer)
"""Failures that the same way would meet again; the next way may not."""


def leads_elsewhere(error: BaseException) -> bool:
    """Return whether `error` says that this identity is no good, rather than that now is not the time."""
    if isinstance(error, TlsKeyFailed) and isinstance(error.__cause__, AgentError):
        return leads_elsewhere(error.__cause__)  # a TPM that is busy or away is no reason to give an identity up
    return isinstance(error, _NOT_THIS_WAY) or (isinstance(error, TlsFailed) and error.peer)


class Homecoming:
    """Finds an identity. refused: serial numbers of certificates that were refused since the agent started. obtained:
    those that were got since then, and when, by Clock.boot_time_s(). trust: asked for after each certificate that EST
    gave, so that who slept through a change of roots hears of it on its way home."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        self.trust = TrustUpdates(identities)
        self.refused: set[str] = set()
        self.obtained: dict[str, float] = {}

    def slot_in_hand(self) -> Slot | None:
        """Return the first slot that is neither expired nor refused.

        Asks nobody, unless one looks expired by a clock that nothing vouches for: then the server, for the time.
        """
        clock = self._identities.clock
        for slot in self._identities.slots.candidates():
            if slot.identity.serial_number in self.refused:
                continue
            if slot.identity.not_after <= clock.now():
                self._identities.try_to_learn_time()
            if slot.identity.not_after > clock.now():
                return slot
            log.info("slot-expired", slot=slot.name, not_after=slot.identity.not_after)
        return None

    def find(self) -> Slot:
        """Return an identity to connect with, by the cheapest way that is open. Raise what closed the last one."""
        return self.slot_in_hand() or self.heal()

    def find_proven(self) -> Slot:
        """Return an identity that the server has just accepted, by the cheapest way that is open."""
        while (slot := self.slot_in_hand()) is not None:
            reason = self.ask_why(slot.identity)
            if reason is None:
                return slot
            log.failed("identity-refused", reason, serial=slot.identity.serial_number)
            self.refused.add(slot.identity.serial_number)
        return self.heal()

    def attest_and_heal(self) -> Slot:
        """Attest the TPM again, whatever is there, and get a new operational identity."""
        self._identities.probe_disk()
        return self._by_birth_certificate(self.attest())

    def heal(self) -> Slot:
        """Get a new operational identity: by the birth certificate, or by attestation where none serves."""
        self._identities.probe_disk()
        record = self._identities.birth_record()
        if record is not None:
            try:
                return self._by_birth_certificate(record)
            except AgentError as error:
                if not leads_elsewhere(error):
                    raise
                log.failed("birth-certificate-refused", error)
        return self._by_birth_certificate(self.attest())

    def attest(self) -> BirthRecord:
        """Enroll: prove the TPM to the server, keep what it gives."""
        log.info("enrolling", server=self._identities.settings.server.url)
        record = apart(self._enroll)
        self._identities.keep_new_birth_record(record)
        log.info("enrolled", device=record.device_id)
        return record

    def ask_why(self, identity: Identity) -> AgentError | None:
        """Ask the server, over HTTPS as `identity`, whether it knows a reason to refuse it; None if it does not.

        A broker can't say why: in TLS 1.3 a refused certificate shows as a cut connection. Where our broker is the
        server says as well; that is kept. Raise where nobody answers.
        """
        try:
            self._identities.keep_broker(apart(lambda: self._knock(identity)))
        except AgentError as error:
            if leads_elsewhere(error):
                return error
            raise
        return None

    def renew(self, slot: Slot) -> Slot:
        """Get the successor of a living identity by simplereenroll, into the spare slot; it is not current yet."""
        self._identities.probe_disk()
        renewed = self._keep(apart(lambda: self._simplereenroll(slot.identity)))
        self.trust.pull()
        return renewed

    def _by_birth_certificate(self, record: BirthRecord) -> Slot:
        """Get a first operational identity by simpleenroll, and make it current: nothing better is there."""
        slot = self._keep(apart(lambda: self._simpleenroll(record)))
        self._identities.slots.promote(slot)
        self._identities.restore_birth_record(record)
        self.trust.pull()
        return replace(slot, current=True)

    def _keep(self, obtained: Operational) -> Slot:
        self._identities.keep_broker(obtained.broker)
        slot = self._identities.slots.write_spare(Identity.of(obtained.chain, obtained.key_pem))
        serial, not_after = slot.identity.serial_number, slot.identity.not_after
        self.obtained[serial] = self._identities.clock.boot_time_s()
        log.info("certificate-obtained", slot=slot.name, serial=serial, not_after=not_after)
        return slot

    # -- what is done apart

    def _enroll(self) -> BirthRecord:
        from birthmark_agent.enrollment import enroll

        identities = self._identities
        with identities.to_server() as connection, identities.open_tpm() as tpm:
            return enroll(
                connection,
                tpm,
                server_name=identities.settings.server.host,
                anchors=identities.anchors,
                ek_template=identities.settings.ek_template,
                agent=AGENT,
            )

    def _simpleenroll(self, record: BirthRecord) -> Operational:
        from birthmark_agent.renewal import obtain

        identities = self._identities
        with identities.to_est(record.est_url, identities.birth_context(record)) as est:
            return obtain(
                est,
                identities.open_tpm,
                device_id=record.device_id,
                client_certificate=record.chain[0],
                names=csr.device_names(record.device_id),
                anchors=identities.anchors,
                again=False,
            )

    def _simplereenroll(self, identity: Identity) -> Operational:
        from birthmark_agent.renewal import names_of, obtain

        identities = self._identities
        with identities.to_est(identities.est_url(), identities.operational_context(identity)) as est:
            return obtain(
                est,
                identities.open_tpm,
                device_id=identity.device_id,
                client_certificate=identity.chain[0],
                names=names_of(identity.chain[0]),
                anchors=identities.anchors,
                again=True,
                known=identity.chain[1:],
            )

    def _knock(self, identity: Identity) -> BrokerEndpoint | None:
        context = self._identities.operational_context(identity)
        with self._identities.to_est(self._identities.est_url(), context) as est:
            est.nonce()
            return est.broker
