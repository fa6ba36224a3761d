"""The outside check of a campaign: a URL that says by 2xx whether the next stage may begin.

The server asks it on behalf of whoever started the campaign, from where it stands, so it asks only the origins
(RFC 6454: scheme, host, port) that its settings name, and follows nobody elsewhere: an operator's certificate is no way
into the server's network.
"""

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from http.client import HTTPMessage
from typing import IO, Final

from birthmark_server.campaigns import BadCampaign, Campaign

TIMEOUT_S: Final = 10.0
_PORTS: Final = {"http": 80, "https": 443}


class OutsideChecks:
    """origins: as https://qa.example.com or http://127.0.0.1:9000. Raise ValueError for what is none."""

    def __init__(self, origins: Iterable[str] = (), *, timeout_s: float = TIMEOUT_S) -> None:
        self._origins = {origin_of(each): each for each in origins}
        self._timeout_s = timeout_s

    def check_url(self, url: str) -> None:
        """Raise BadCampaign unless this may be asked."""
        try:
            origin = origin_of(url)
        except ValueError as error:
            raise BadCampaign(f"check: {error}") from None
        if origin not in self._origins:
            allowed = ", ".join(self._origins.values()) or "none"
            raise BadCampaign(f"check: want an origin of [rotation] check_origins ({allowed}), got {url!r}")

    def ask(self, campaign: Campaign) -> str:
        """GET the campaign's check with its id and the stage that it holds before, counted from 1 as people do; return
        why it may not go on, empty where it may."""
        query = urllib.parse.urlencode({"campaign": campaign.campaign_id, "stage": campaign.stage + 2})
        url = campaign.strategy.check_url
        try:
            self.check_url(url)
            with _OPENER.open(f"{url}{'&' if '?' in url else '?'}{query}", timeout=self._timeout_s) as answer:
                return "" if 200 <= answer.status < 300 else f"status {answer.status}"
        except (BadCampaign, OSError, ValueError) as error:
            return str(error) or type(error).__name__


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of an http or https URL. Raise ValueError."""
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme in _PORTS and parts.hostname:
            return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]
    except ValueError:  # brackets or a port that are none
        pass
    raise ValueError(f"want an http or https URL, got {url!r}")


class _Stay(urllib.request.HTTPRedirectHandler):
    """An answer that points elsewhere is an answer, and no 2xx."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, _msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """See urllib.request."""
        raise urllib.error.HTTPError(req.full_url, code, f"it points to {newurl}", headers, fp)


_OPENER: Final = urllib.request.build_opener(_Stay, urllib.request.ProxyHandler({}))
