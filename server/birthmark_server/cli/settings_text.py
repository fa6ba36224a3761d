"""A settings file with values in it: the documented example (settings.example), with some lines filled in."""

import json
from collections.abc import Mapping

from birthmark_server import settings


def render(values: Mapping[str, object]) -> str:
    """Return the example file with each `section.key` of `values` filled in; raise KeyError for an unknown one."""
    left = dict(values)
    lines, section = [], ""
    for line in settings.example().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        key, equals, _ = line.removeprefix("# ").partition(" = ")
        name = f"{section}.{key}"
        lines.append(f"{key} = {json.dumps(left.pop(name))}" if equals and name in left else line)
    if left:
        raise KeyError(", ".join(left))
    return "\n".join(lines) + "\n"
