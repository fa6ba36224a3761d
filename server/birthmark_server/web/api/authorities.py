"""The operations of operators on authorities, as those in routes.py.

Acts are no part of a batch: a retirement waits for all births and issuances under way before it has written anything
itself (store.database.Transaction.lock_fleet), or two servers would wait for each other.
"""

from typing import Final

from birthmark_server.roles import READING, VOUCHING
from birthmark_server.web.api import authority_views as views
from birthmark_server.web.api.operation import Entry
from birthmark_server.web.api.queries import PageQuery
from birthmark_server.web.contract import Contract

AUTHORITIES: Final[tuple[Entry, ...]] = (
    (
        "GET", "/v1/authorities", READING,
        Contract("List certificate authorities, by name.", query=PageQuery, answer=views.AuthorityPage),
        lambda asked: asked.desk.authorities.authorities(after=asked.after, limit=asked.limit),
    ),
    (
        "GET", "/v1/authorities/{id}", READING,
        Contract("Show how far one authority is, and what is in its way.", answer=views.AuthorityStatus),
        lambda asked: asked.desk.authorities.authority(asked.argument),
    ),
    (
        "GET", "/v1/authorities/{id}/laggards", READING,
        Contract(
            "List the devices seen lately that have not acknowledged a trust bundle with it, by id.",
            query=PageQuery, answer=views.LaggardPage,
        ),
        lambda asked: asked.desk.authorities.laggards(asked.argument, after=asked.after, limit=asked.limit),
    ),
    (
        "GET", "/v1/authorities/{id}/leaves", READING,
        Contract(
            "List the certificates that stand below it, by SHA-256.", query=PageQuery, answer=views.LeafPage
        ),
        lambda asked: asked.desk.authorities.leaves(asked.argument, after=asked.after, limit=asked.limit),
    ),
    (
        "POST", "/v1/authorities/{id}/stage", VOUCHING,
        Contract("Have an authority believed; it issues nothing yet.", answer=views.AuthorityMoved, alone=True),
        lambda asked: asked.desk.authorities.stage(asked.argument),
    ),
    (
        "POST", "/v1/authorities/{id}/withdraw", VOUCHING,
        Contract("Undo an authority's staging.", answer=views.AuthorityMoved, alone=True),
        lambda asked: asked.desk.authorities.withdraw(asked.argument),
    ),
    (
        "POST", "/v1/authorities/{id}/activate", VOUCHING,
        Contract(
            "Let an authority issue, in place of the one that does.",
            body=views.Activation, answer=views.AuthorityMoved, alone=True,
        ),
        lambda asked: asked.desk.authorities.activate(asked.argument, asked.body),
    ),
    (
        "POST", "/v1/authorities/{id}/retire", VOUCHING,
        Contract("Have an authority believed no more.", answer=views.AuthorityMoved, alone=True),
        lambda asked: asked.desk.authorities.retire(asked.argument),
    ),
    (
        "POST", "/v1/authorities/{id}/restore", VOUCHING,
        Contract("Undo an authority's retirement.", answer=views.AuthorityMoved, alone=True),
        lambda asked: asked.desk.authorities.restore(asked.argument),
    ),
)  # fmt: skip
