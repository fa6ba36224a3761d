"""Every operation of operators: its path, its roles, what goes in and comes out, and what it asks of the desk."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from birthmark_server.roles import ADMITTING, READING, STEERING, VOUCHING
from birthmark_server.store.fleet_protocol import FleetStore
from birthmark_server.web.api import bodies, queries, views
from birthmark_server.web.api.authorities import AUTHORITIES
from birthmark_server.web.api.campaigns.routes import CAMPAIGNS
from birthmark_server.web.api.idempotency import AnswerBook
from birthmark_server.web.api.operation import Entry, OpenDesk, Operations
from birthmark_server.web.api.queries import PageQuery
from birthmark_server.web.api.workorders.routes import WORKORDERS
from birthmark_server.web.contract import Contract
from birthmark_server.web.doors import Route

MANIFEST_BYTES: Final = 32 << 20
"""The largest body of an import: 100,000 entries of some 300 bytes."""

DEVICES: Final[tuple[Entry, ...]] = (
    (
        "GET", "/v1/devices", READING,
        Contract("List devices, by id.", query=queries.DevicePageQuery, answer=views.DevicePage),
        lambda asked: asked.desk.devices(asked.query, after=asked.after, limit=asked.limit),
    ),
    (
        "GET", "/v1/devices/{id}", READING,
        Contract("Show one device with all that was decided about it.", answer=views.DeviceDetail),
        lambda asked: asked.desk.device(asked.argument),
    ),
    (
        "POST", "/v1/devices/{id}/tags", STEERING,
        Contract("Give a device tags, and take some away.", body=bodies.TagChange, answer=views.Tags),
        lambda asked: asked.desk.change_tags(asked.argument, asked.body),
    ),
    (
        "POST", "/v1/devices/{id}/quarantine", STEERING,
        Contract(
            "Shut a device out for the time being; no certificate is revoked.",
            body=bodies.Quarantine, answer=views.Standing, alone=True,
        ),
        lambda asked: asked.desk.quarantine_device(asked.argument, asked.body),
    ),
    (
        "POST", "/v1/devices/{id}/restore", STEERING,
        Contract(
            "End a device's quarantine: its certificates are good as before.", answer=views.Standing, alone=True
        ),
        lambda asked: asked.desk.restore_device(asked.argument),
    ),
    (
        "POST", "/v1/devices/{id}/revoke", STEERING,
        Contract(
            "Revoke a device: all its certificates, and whatever it has begun.",
            body=bodies.DeviceRevocation, answer=views.Standing, alone=True,
        ),
        lambda asked: asked.desk.revoke_device(asked.argument, asked.body),
    ),
    (
        "POST", "/v1/devices/{id}/retire", STEERING,
        Contract(
            "End a device's service: all its certificates are revoked.",
            body=bodies.Retirement, answer=views.Standing, alone=True,
        ),
        lambda asked: asked.desk.retire_device(asked.argument, asked.body),
    ),
    (
        "POST", "/v1/devices/{id}/readmit", STEERING,
        Contract("Let a revoked or retired device enroll again.", answer=views.Standing, alone=True),
        lambda asked: asked.desk.readmit_device(asked.argument),
    ),
    (
        "POST", "/v1/devices/{id}/swap", STEERING,
        Contract(
            "Ask for another board; another operator approves it.",
            body=bodies.SwapRequest, answer=views.SwapView, status=201, creates=True,
        ),
        lambda asked: asked.desk.ask_swap(asked.argument, asked.body),
    ),
    (
        "POST", "/v1/devices/{id}/swap/approval", STEERING,
        Contract(
            "Approve the board that another operator asked for.",
            body=bodies.SwapApproval, answer=views.SwapApproved, alone=True,
        ),
        lambda asked: asked.desk.approve_swap(asked.argument, asked.body),
    ),
    (
        "GET", "/v1/denials", READING,
        Contract("List what is denied for good.", query=PageQuery, answer=views.DenialPage),
        lambda asked: asked.desk.denials(after=asked.after, limit=asked.limit),
    ),
    (
        "POST", "/v1/denials", STEERING,
        Contract(
            "Deny for good: a device, a serial number, an EK.",
            body=bodies.Denial, answer=views.Cut, status=201, creates=True, alone=True,
        ),
        lambda asked: asked.desk.deny(asked.body),
    ),
)  # fmt: skip

CERTIFICATES: Final[tuple[Entry, ...]] = (
    (
        "GET", "/v1/certificates", READING,
        Contract("List certificates, by SHA-256.", query=queries.CertificateQuery, answer=views.CertificatePage),
        lambda asked: asked.desk.certificates(asked.query, after=asked.after, limit=asked.limit),
    ),
    (
        "GET", "/v1/certificates/{id}", READING,
        Contract("Show one certificate, by 8 or more digits of its SHA-256.", answer=views.CertificateView),
        lambda asked: asked.desk.certificate(asked.argument),
    ),
    (
        "POST", "/v1/certificates/{id}/revoke", STEERING,
        Contract(
            "Revoke one certificate. One that is no device's is a security officer's to revoke.",
            body=bodies.Revocation, answer=views.CertificateCut, alone=True,
        ),
        lambda asked: asked.desk.revoke_certificate(asked.argument, asked.body),
    ),
)  # fmt: skip

ADMISSION: Final[tuple[Entry, ...]] = (
    (
        "GET", "/v1/models", READING,
        Contract("List device models.", query=PageQuery, answer=views.ModelPage),
        lambda asked: asked.desk.models(after=asked.after, limit=asked.limit),
    ),
    (
        "POST", "/v1/models", STEERING,
        Contract(
            "Add a device model.",
            body=bodies.NewModel, answer=views.ModelView, status=201, creates=True, alone=True,
        ),
        lambda asked: asked.desk.add_model(asked.body),
    ),
    (
        "GET", "/v1/manifest", READING,
        Contract("List the devices that are expected.", query=PageQuery, answer=views.ManifestPage),
        lambda asked: asked.desk.manifest(after=asked.after, limit=asked.limit),
    ),
    (
        "POST", "/v1/manifest", ADMITTING,
        Contract(
            "Import devices that are expected: all, or none.",
            body=bodies.NewManifest, answer=views.Imported, status=201, creates=True,
            most_body_bytes=MANIFEST_BYTES,
        ),
        lambda asked: asked.desk.import_manifest(asked.body),
    ),
    (
        "DELETE", "/v1/manifest/{id}", ADMITTING,
        Contract(
            "Take a device off the manifest, by its serial number, that was not born.", answer=views.ManifestView
        ),
        lambda asked: asked.desk.remove_line(asked.argument),
    ),
    (
        "GET", "/v1/batches", READING,
        Contract("List batch windows.", query=PageQuery, answer=views.BatchPage),
        lambda asked: asked.desk.batches(after=asked.after, limit=asked.limit),
    ),
    (
        "POST", "/v1/batches", ADMITTING,
        Contract("Open a batch window.", body=bodies.NewBatch, answer=views.BatchView, status=201, creates=True),
        lambda asked: asked.desk.open_batch(asked.body),
    ),
    (
        "POST", "/v1/batches/{id}/close", ADMITTING,
        Contract("Close a batch window now.", answer=views.BatchView),
        lambda asked: asked.desk.close_batch(asked.argument),
    ),
    (
        "GET", "/v1/refusals", READING,
        Contract("List refused requests, newest first.", query=queries.RefusalQuery, answer=views.RefusalPage),
        lambda asked: asked.desk.refusals(asked.query, after=asked.after, limit=asked.limit),
    ),
)  # fmt: skip

PEOPLE: Final[tuple[Entry, ...]] = (
    (
        "GET", "/v1/operators", READING,
        Contract("List operators' certificates.", query=PageQuery, answer=views.OperatorPage),
        lambda asked: asked.desk.operators(after=asked.after, limit=asked.limit),
    ),
    (
        "POST", "/v1/operators", VOUCHING,
        Contract(
            "Give an operator a certificate, for the key in a request of theirs.",
            body=bodies.NewOperator, answer=views.IssuedOperator, status=201, creates=True,
        ),
        lambda asked: asked.desk.add_operator(asked.body),
    ),
    (
        "POST", "/v1/operators/{id}/revoke", VOUCHING,
        Contract("Revoke all certificates of an operator.", body=bodies.Revocation, answer=views.OperatorCut),
        lambda asked: asked.desk.revoke_operator(asked.argument, asked.body),
    ),
    (
        "GET", "/v1/groups", READING,
        Contract("List groups.", query=PageQuery, answer=views.GroupPage),
        lambda asked: asked.desk.groups(after=asked.after, limit=asked.limit),
    ),
    (
        "POST", "/v1/groups", STEERING,
        Contract("Save a query as a group.", body=bodies.NewGroup, answer=views.GroupView, status=201, creates=True),
        lambda asked: asked.desk.save_group(asked.body),
    ),
    (
        "GET", "/v1/groups/{id}", READING,
        Contract("Show a group's query.", answer=views.GroupView),
        lambda asked: asked.desk.group(asked.argument),
    ),
    (
        "DELETE", "/v1/groups/{id}", STEERING,
        Contract("Remove a group; its devices stay as they are."),
        lambda asked: asked.desk.remove_group(asked.argument),
    ),
    (
        "GET", "/v1/status", READING,
        Contract("Which server this is, and how many devices stand where.", answer=views.StatusView),
        lambda asked: asked.desk.status(),
    ),
)  # fmt: skip


OPERATIONS: Final = (*DEVICES, *CERTIFICATES, *ADMISSION, *WORKORDERS, *CAMPAIGNS, *PEOPLE, *AUTHORITIES)
"""All of them, as docs/api.md lists them. What is `alone` is durable before anybody hears of it: the desk tells the
broker of what it cuts off or lets back, and enrollments remember what a model demands."""


def operator_routes(open_desk: OpenDesk, store: FleetStore, *, now: Callable[[], datetime]) -> list[Route]:
    """Return the routes of operators."""
    operations = Operations(open_desk, AnswerBook(store, now))
    return [operations.route(*entry) for entry in OPERATIONS]
