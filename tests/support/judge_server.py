"""Answer as the server of a judge would, by a script or by what was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = str | int | bytes | tuple[int, bytes]  # a text, a status, raw bytes, or both


class Server:
    """Reply by `script`, whose last entry is repeated, and keep what was asked in `seen`.

    An entry of the script is a reply, or computes one from the request's text. With each reply it
    asks to wait for `wait_ms` before the next attempt, as only a server that fails would.
    """

    def __init__(self) -> None:
        self.script: list[Reply | Callable[[str], Reply]] = ["VERDICT: correct"]
        self.wait_ms = 1  # the client would wait longer by itself
        self.seen: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        server, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with lock:
                    server.seen.append((self.path, headers, body))
                    given = server.script.pop(0) if len(server.script) > 1 else server.script[0]
                if callable(given):
                    given = given(body["messages"][-1]["content"])
                status, given = given if isinstance(given, tuple) else (200, given)
                status = given if isinstance(given, int) else status
                message = {"choices": [{"message": {"content": given}}]}
                payload = given if isinstance(given, bytes) else json.dumps(message).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"{server.url}/elsewhere")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.send_header("Retry-After-Ms", str(server.wait_ms))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
