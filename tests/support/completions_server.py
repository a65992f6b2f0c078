"""Answer as a server with OpenAI's completions would, with vLLM's fields or without, and fail."""

from __future__ import annotations

import hashlib
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support import tiny_tokenizer

WORDS = "the lamp burns rape oil in winter and stands at the point of Vell since long ago".split()
Fault = str | int | None  # the name of a fault, a status, or nothing
KEY = "secret-of-the-tests"


class CompletionsServer:
    """Complete prompts by what they are and by their seeds, so that every answer can be foretold.

    Args:
        faults: says from the number of a request, counted from 0, what goes wrong with it: a
            status, `wait` (429 with Retry-After), `broken` (no JSON), `hollow` (no choices),
            `stall` or `drop` (no answer at all).
        takes_ids, knows_more, gives_ids: what it can do.
        guides: what it does with a JSON schema: `yes` holds completions to it (it writes `guided`,
            or what fits the probe), `no` refuses it, `ignores` does as if there were none.
    """

    def __init__(
        self,
        faults: Callable[[int], Fault] = lambda _: None,
        *,
        takes_ids: bool = True,
        knows_more: bool = True,
        gives_ids: bool = True,
        guides: str = "no",
        seconds: float = 0.0,
    ) -> None:
        self.faults, self.seconds = faults, seconds
        self.takes_ids, self.knows_more, self.gives_ids = takes_ids, knows_more, gives_ids
        self.guides, self.guided = guides, "[]"
        self.tokenizer = tiny_tokenizer()
        self.models: list[dict[str, Any]] = [{"id": "tiny", "max_model_len": 2048}]
        self.unlisted: set[str] = set()  # models that it serves as well
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.answered: Counter[str] = Counter()  # whole answers, by prompt and seed
        self.began: list[float] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Listen on the same port as before."""
        self.http = _Http(("127.0.0.1", self.port), _handler_of(self))
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def kill(self) -> None:
        """End as a killed process does: all connections break."""
        self.http.shutdown()
        self.http.server_close()
        for connection in list(self.http.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def complete(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return the status and the fields of an answer."""
        prompt = body["prompt"]
        if body["model"] not in {one["id"] for one in self.models} | self.unlisted:
            return 404, {"error": "no such model"}
        is_ids = not isinstance(prompt, str)
        if (is_ids and not self.takes_ids) or ("top_k" in body and not self.knows_more):
            return 400, {"error": "unknown field"}
        shape = body.get("response_format")
        if shape and self.guides == "no":
            return 400, {"error": "unknown field"}
        ids = prompt if is_ids else self.tokenizer(prompt)["input_ids"]
        seed = body.get("seed", 0) if body.get("temperature") else 0
        rng = random.Random(hashlib.sha256(repr((ids, seed)).encode()).hexdigest())
        text = " ".join(rng.sample(WORDS, 5)) + ("?" if rng.random() < 0.5 else ".")
        if shape and self.guides == "yes":
            kinds = shape["json_schema"]["schema"]["items"]
            text = "[7]" if kinds.get("enum") == [7] else self.guided
        said = self.tokenizer(text)["input_ids"]
        stops = {self.tokenizer.eos_token_id, *body.get("stop_token_ids", [])}
        said = [*said, self.tokenizer.eos_token_id]
        end = next(i for i, token in enumerate(said) if token in stops)
        said, reason = said[: end + 1], "stop"
        if len(said) > body["max_tokens"]:
            said, reason = said[: body["max_tokens"]], "length"
        # a stop that is a special token stands in no text, another one does
        shown = said[:-1] if said[-1] == self.tokenizer.eos_token_id else said
        choice = {"text": self.tokenizer.decode(shown), "finish_reason": reason, "index": 0}
        if self.gives_ids and body.get("return_token_ids"):
            choice["token_ids"] = said
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(said)}
        return 200, {"id": "x", "object": "text_completion", "choices": [choice], "usage": usage}


class _Http(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *args: Any) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, *_: Any) -> None:
        pass  # a client that has gone


def _handler_of(server: CompletionsServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open, as with a real server

        def do_GET(self) -> None:
            self.reply(200, {"object": "list", "data": server.models})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                number = len(server.bodies)
                server.bodies.append(body)
                server.began.append(time.monotonic())
                server.keys.add(self.headers.get("Authorization"))
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
            try:
                self.answer(body, server.faults(number))
            finally:
                with server.lock:
                    server.at_once -= 1

        def answer(self, body: dict[str, Any], fault: Fault) -> None:
            time.sleep(server.seconds)
            if isinstance(fault, int):
                self.reply(fault, {"error": {"message": "no"}})
            elif fault == "wait":
                self.reply(429, {"error": {"message": "slowly"}}, {"Retry-After": "0.3"})
            elif fault == "broken":
                self.reply(200, b'{"choices": [{"text": "The')
            elif fault == "hollow":
                self.reply(200, {"choices": []})
            elif fault == "stall":
                time.sleep(2)
                self.close_connection = True
            elif fault == "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            else:
                status, found = server.complete(body)
                if status == 200:  # counted first: who has the answer may look at the count at once
                    with server.lock:
                        server.answered[json.dumps([body["prompt"], body.get("seed", 0)])] += 1
                self.reply(status, found)

        def reply(self, status: int, found: Any, headers: dict[str, str] | None = None) -> None:
            payload = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
