"""What a person typed, as one segment of a path."""

from urllib.parse import quote


def segment(value: str) -> str:
    """Return one segment of a path: what a person typed must not become two, or none."""
    return quote(value, safe="") or "%20"
