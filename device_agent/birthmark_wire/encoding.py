"""Strict JSON and base64url, and typed access to what was read.

Everything that a peer sends passes through `JsonObject`: unknown and missing members, wrong types, duplicates and
oversized values are refused by name, so no handler ever holds a `dict[str, Any]`.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from typing import Final

from birthmark_wire.errors import DecodeError

MAX_MESSAGE_BYTES: Final = 65_536
"""The largest JSON message either side accepts: six EK certificates with their chains fit five times over."""


def b64(data: bytes) -> str:
    """Return `data` as unpadded base64url (RFC 4648 §5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64(text: str, *, field: str) -> bytes:
    """Read unpadded base64url; refuse padding, white space, other alphabets and non-zero trailing bits."""
    try:
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError) as error:
        raise DecodeError(f"want unpadded base64url: {error}", field=field) from None
    if b64(data) != text:
        raise DecodeError("want unpadded base64url in its one canonical form", field=field)
    return data


class JsonObject:
    """One JSON object, read member by member; `done()` refuses what was not asked for."""

    __slots__ = ("_members", "_path", "_unread")

    def __init__(self, members: Mapping[str, object], path: str = "") -> None:
        self._members = members
        self._unread = set(members)
        self._path = path

    def _field(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _take(self, name: str, *, optional: bool = False) -> object:
        if name not in self._members:
            if optional:
                return None
            raise DecodeError("is missing", field=self._field(name))
        self._unread.discard(name)
        return self._members[name]

    def text(self, name: str, *, max_chars: int = 256) -> str:
        """Return the string member `name`."""
        return self._text_value(self._take(name), name, max_chars)

    def optional_text(self, name: str, *, max_chars: int = 256) -> str | None:
        """Return the string member `name`, or None where it is absent or null."""
        value = self._take(name, optional=True)
        return None if value is None else self._text_value(value, name, max_chars)

    def _text_value(self, value: object, name: str, max_chars: int) -> str:
        if not isinstance(value, str):
            raise DecodeError(f"want a string, got {_kind(value)}", field=self._field(name))
        if len(value) > max_chars:
            raise DecodeError(f"want at most {max_chars} characters, got {len(value)}", field=self._field(name))
        return value

    def integer(self, name: str, *, low: int, high: int) -> int:
        """Return the integer member `name`, low <= value <= high."""
        value = self._take(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise DecodeError(f"want an integer, got {_kind(value)}", field=self._field(name))
        if not low <= value <= high:
            raise DecodeError(f"want {low} to {high}, got {value}", field=self._field(name))
        return value

    def boolean(self, name: str) -> bool:
        """Return the boolean member `name`."""
        value = self._take(name)
        if not isinstance(value, bool):
            raise DecodeError(f"want true or false, got {_kind(value)}", field=self._field(name))
        return value

    def octets(self, name: str, *, low: int = 1, high: int = 8192) -> bytes:
        """Return the base64url member `name`, low..high bytes long."""
        return self._octets_value(self._take(name), self._field(name), low, high)

    def optional_octets(self, name: str, *, low: int = 1, high: int = 8192) -> bytes | None:
        """Return the base64url member `name`, or None where it is absent or null."""
        value = self._take(name, optional=True)
        return None if value is None else self._octets_value(value, self._field(name), low, high)

    def octets_list(self, name: str, *, most: int, low: int = 1, high: int = 8192) -> tuple[bytes, ...]:
        """Return the member `name`, an array of at most `most` base64url strings of low..high bytes each."""
        items = self._list(name, most)
        return tuple(self._octets_value(v, f"{self._field(name)}[{i}]", low, high) for i, v in enumerate(items))

    def texts(self, name: str, *, most: int, max_chars: int = 8192) -> tuple[str, ...]:
        """Return the member `name`, an array of at most `most` strings."""
        items = self._list(name, most)
        return tuple(self._text_value(value, f"{name}[{i}]", max_chars) for i, value in enumerate(items))

    def optional_texts(self, name: str, *, most: int, max_chars: int = 8192) -> tuple[str, ...]:
        """Return the member `name`, an array of at most `most` strings; empty where it is absent."""
        return self.texts(name, most=most, max_chars=max_chars) if name in self._members else ()

    def _octets_value(self, value: object, field: str, low: int, high: int) -> bytes:
        if not isinstance(value, str):
            raise DecodeError(f"want a base64url string, got {_kind(value)}", field=field)
        if len(value) > (high * 4 + 2) // 3:
            raise DecodeError(f"want at most {high} bytes", field=field)
        data = unb64(value, field=field)
        if not low <= len(data) <= high:
            raise DecodeError(f"want {low} to {high} bytes, got {len(data)}", field=field)
        return data

    def member(self, name: str) -> "JsonObject":
        """Return the object member `name`."""
        return self._object_value(self._take(name), self._field(name))

    def optional_member(self, name: str) -> "JsonObject | None":
        """Return the object member `name`, or None where it is absent or null."""
        value = self._take(name, optional=True)
        return None if value is None else self._object_value(value, self._field(name))

    def members(self, name: str, *, most: int) -> tuple["JsonObject", ...]:
        """Return the member `name`, an array of at most `most` objects."""
        items = self._list(name, most)
        return tuple(self._object_value(value, f"{self._field(name)}[{i}]") for i, value in enumerate(items))

    def _object_value(self, value: object, field: str) -> "JsonObject":
        if not isinstance(value, dict):
            raise DecodeError(f"want an object, got {_kind(value)}", field=field)
        return JsonObject(value, field)

    def _list(self, name: str, most: int) -> list[object]:
        value = self._take(name)
        if not isinstance(value, list):
            raise DecodeError(f"want an array, got {_kind(value)}", field=self._field(name))
        if len(value) > most:
            raise DecodeError(f"want at most {most} items, got {len(value)}", field=self._field(name))
        return value

    def done(self) -> None:
        """Refuse members that nobody asked for: a misspelt optional one would otherwise be ignored in silence."""
        if self._unread:
            raise DecodeError("is not a member of this message", field=self._field(min(self._unread)))


def read_json(data: bytes) -> JsonObject:
    """Read one JSON object (RFC 8259) in UTF-8, at most MAX_MESSAGE_BYTES long, without duplicate members."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise DecodeError(f"want at most {MAX_MESSAGE_BYTES} bytes, got {len(data)}")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except DecodeError:
        raise
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DecodeError(f"want JSON in UTF-8: {error}") from None
    except (RecursionError, ValueError) as error:  # nesting bombs; integers of more than 4,300 digits
        raise DecodeError(f"want plain JSON: {error}") from None
    if not isinstance(value, dict):
        raise DecodeError(f"want a JSON object, got {_kind(value)}")
    return JsonObject(value)


def write_json(members: Mapping[str, object]) -> bytes:
    """Write one JSON object in UTF-8, members in the order given, no white space: equal values give equal bytes."""
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


def _no_duplicates(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for name, value in pairs:
        if name in members:
            raise DecodeError("stands twice in one object", field=name[:80])
        members[name] = value
    return members


def _no_constant(text: str) -> float:
    raise DecodeError(f"{text} is not JSON")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def printable(text: str) -> str:
    """Return what a peer said in words, for people's eyes: `?` in place of each character that a terminal may obey."""
    return "".join(character if character.isprintable() else "?" for character in text)
