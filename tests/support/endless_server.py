"""Answer as a server does that wants to be waited for: without an end, a byte now and then."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress


class Drips:
    """Send a reply of a byte now and then, or without an end, and count who asks."""

    def __init__(self, body, pause, headers=b""):
        self.asked = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/v1"
        self.body, self.pause, self.headers = body, pause, headers
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            self.asked += 1
            threading.Thread(target=self.reply, args=(peer,), daemon=True).start()

    def reply(self, peer):
        with suppress(OSError), peer:
            peer.recv(1 << 16)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + self.headers)
            peer.sendall(b"\r\n" if self.body else b"")
            for part in self.body or iter(lambda: b"X", b""):
                peer.sendall(part)
                time.sleep(self.pause)
