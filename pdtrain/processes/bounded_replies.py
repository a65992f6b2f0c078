"""Bound what a server may do to whoever asks it: the time of a whole call, and the reply's size.

The client's own time limit is for each read, so that a server which sends a byte now and then is
never given up.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

MOST_BYTES = 64 << 20  # of a reply


class ReplyTooLarge(Exception):  # noqa: N818 - the name is shown as the reason
    """Say that a server sent more than any reply has."""


class ReplyTooSlow(Exception):  # noqa: N818
    """Say that a server did not come to the end of its reply in time."""


def hooks(seconds: float, most_bytes: int = MOST_BYTES) -> dict[str, list[Callable[[Any], None]]]:
    """Return event hooks for an httpx client that end a reply which is too long in any sense.

    Replies are asked for as they are, for a few compressed bytes may become any number.

    Args:
        seconds: from the reply's first line to its end.
        most_bytes: of a reply.
    """

    def asks_plainly(request: Any) -> None:
        request.headers["Accept-Encoding"] = "identity"

    def bounds(response: Any) -> None:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ReplyTooLarge("a compressed reply, which was not asked for")
        response.stream = bounded(response.stream, time.monotonic() + seconds, most_bytes)

    return {"request": [asks_plainly], "response": [bounds]}


def bounded(stream: Any, give_up: float, most_bytes: int) -> Any:
    """Return a reply's stream that ends with an error when it is too late or too large.

    Args:
        stream: of the client.
        give_up: the time of `time.monotonic` after which nothing is read.
        most_bytes: of the reply.
    """
    # the client asks for a stream of its library's own class, whichever library that is
    base: Any = next(kind for kind in type(stream).__mro__ if kind.__name__ == "SyncByteStream")

    class Bounded(base):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            left = most_bytes
            for part in stream:
                left -= len(part)
                if left < 0:
                    raise ReplyTooLarge("more bytes than any reply has")
                if time.monotonic() > give_up:
                    raise ReplyTooSlow("no end in time")
                yield part

        def close(self) -> None:
            stream.close()

    return Bounded()


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return what a call returns, if it does in time.

    It runs in a thread of its own, which is left alone where it does not end, and does not keep
    the program from ending.

    Raises:
        ReplyTooSlow: it has not returned in time.
        BaseException: whatever the call raises.
    """
    done: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue()

    def run() -> None:
        try:
            done.put((call(), None))
        except BaseException as error:
            done.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        found, error = done.get(timeout=seconds)
    except queue.Empty:
        raise ReplyTooSlow(f"no reply within {seconds:.0f} seconds") from None
    if error is not None:
        raise error
    return found  # type: ignore[return-value]
