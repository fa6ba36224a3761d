"""Where a listing goes on: opaque to whoever gets it, and good for that listing and those filters only.

A cursor says behind which item to go on, so whatever is written meanwhile neither repeats an item nor leaves one out.
It opens nothing: all that it could be bent to is another place in the same listing. Its digest is no signature, but a
cursor that was damaged, or belongs to another query, is told from one that fits.
"""

from hashlib import sha256
from typing import Final

from birthmark_server.web.errors import BadCursor
from birthmark_wire.encoding import b64, unb64
from birthmark_wire.errors import DecodeError

_DIGEST_BYTES: Final = 12


def make_cursor(listing: str, query: str, after: str) -> str:
    """Return a cursor behind `after`. listing: the path; query: the filters, in one canonical form."""
    return b64(_digest(listing, query, after.encode()) + after.encode())


def read_cursor(listing: str, query: str, cursor: str) -> str:
    """Return behind which item to go on; raise BadCursor."""
    try:
        data = unb64(cursor, field="cursor")
        digest, after = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if not after or digest != _digest(listing, query, after):
            raise BadCursor("want `next` of a page of this very query", field="cursor")
        return after.decode()
    except (DecodeError, UnicodeDecodeError):
        raise BadCursor("want `next` of a page of this very query", field="cursor") from None


def _digest(listing: str, query: str, after: bytes) -> bytes:
    fields = (listing.encode(), query.encode(), after)
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in fields)
    return sha256(b"birthmark cursor 1\0" + framed).digest()[:_DIGEST_BYTES]
