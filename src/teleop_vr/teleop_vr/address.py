"""The address that an operator opens, printed so that a headset's camera or a keyboard can take it."""

from __future__ import annotations

import io
import sys
from typing import TextIO


def code(url: str) -> str:
    """A QR code as text, of half blocks, dark on light whatever the terminal's colours."""
    import segno

    out = io.StringIO()
    segno.make(url, error="m").terminal(out=out, compact=True, border=2)
    return out.getvalue()


def show(url: str, port: int, out: TextIO = sys.stdout) -> None:
    """Print the address, its QR code, and the way over USB."""
    token = url.partition("#")[2]
    print(code(url), file=out)
    print(f"Open in the headset's browser, and accept the certificate once:\n\n    {url}\n", file=out)
    print(f"Over USB: adb reverse tcp:{port} tcp:{port}, then https://localhost:{port}/#{token}", file=out, flush=True)
