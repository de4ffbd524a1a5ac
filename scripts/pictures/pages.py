"""Pages as pictures, in a headless Chromium."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")


def photograph(page: str, out: Path, *, width: int, height: int = 1800, dark: bool = False) -> None:
    """Write a page's picture as PNG.

    Arguments:
        page: its address, as `file:///…` or of a server on this machine.
        width, height: of the window in pixels; below 500 the page stands in a frame, because
            Chromium makes no narrower window.
    """
    options = ["--timeout=15000", f"--screenshot={out}"]
    options += ["--blink-settings=preferredColorScheme=0"] if dark else []
    with tempfile.TemporaryDirectory() as folder:
        if width < 500:
            frame = Path(folder, "frame.html")
            size = f"width:{width}px;height:{height}px;border:0"
            frame.write_text(
                f'<body style="margin:0"><iframe src="{page}" style="{size}"></iframe>'
            )
            page = frame.as_uri()
        window = f"--window-size={max(width, 500)},{height}"
        profile = f"--user-data-dir={folder}/profile"
        command = [*CHROMIUM, *options, window, profile, page]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
