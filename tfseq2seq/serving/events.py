"""Server-sent events (WHATWG HTML, section 9.2), written and read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any


def event(content: dict[str, Any], name: str = "") -> bytes:
    """An event with JSON as its data. Without a name it is a "message"."""
    head = f"event: {name}\n" if name else ""
    # JSON has no line break, so that one line of data holds it.
    return f"{head}data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()


def events(lines: Iterable[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The names and contents of the events in a response, line by line. An event without a name is "message"."""
    name, content = "message", b""
    for line in lines:
        line = line.rstrip(b"\r\n")
        if line.startswith(b"event: "):
            name = line.removeprefix(b"event: ").decode("utf-8")
        elif line.startswith(b"data: "):
            content += line.removeprefix(b"data: ")
        elif not line and content:
            yield name, json.loads(content)
            name, content = "message", b""
