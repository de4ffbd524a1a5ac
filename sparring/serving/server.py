"""Listen on 127.0.0.1 until Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from typing import Any

from ..component import require
from ..runtime.extras import import_extra
from .protection import EXTRA, PURPOSE

HOST = "127.0.0.1"
DEFAULT_PORT = 8000
LAST_PORT = 65535


def listen(port: int) -> socket.socket:
    """Return a socket that listens on 127.0.0.1; port 0 is any free one.

    Raises:
        ValueError: for a port that is in use, reserved, or no port.
    """
    require(0 <= port <= LAST_PORT, "port", port, f"from 0 (any free one) to {LAST_PORT}")
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if sys.platform != "win32":  # there, the option would let two servers share a port
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((HOST, port))
        server.listen()
    except OSError as error:
        server.close()
        why = "in use" if error.errno == errno.EADDRINUSE else f"not free ({error.strerror})"
        how = "give another by --port, or --port 0 for any free one"
        raise ValueError(f"port = {port} is {why}: {how}") from None
    return server


def address_of(server: socket.socket) -> str:
    """Return the address that a browser opens."""
    return f"http://{HOST}:{server.getsockname()[1]}/"


def run(app: Any, server: socket.socket, *, started: Callable[[], None] = lambda: None) -> None:
    """Serve an application on a socket until Ctrl-C or a signal to end."""
    uvicorn = import_extra("uvicorn", extra=EXTRA, purpose=PURPOSE)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2
    )
    started()
    # uvicorn ends in order, and then raises the signal again
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[server])
    finally:
        signal.signal(signal.SIGTERM, before)


def open_browser(address: str) -> None:
    """Open the page in the person's browser, in a thread: a browser may take seconds to start."""
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
