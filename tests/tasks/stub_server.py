"""An OpenAI-compatible server on this machine that answers what a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What to answer: status, body, headers, seconds to wait first (`wait`) and between bytes (`drip`)."""

    body: Any = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    drip: float = 0.0


@dataclass
class Stub:
    """Replies in order, the last one for ever; what was asked."""

    replies: list[Reply]
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


def completion(text: str) -> str:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}, ensure_ascii=False)


@contextmanager
def serving(*replies: Reply) -> Iterator[Stub]:
    stub = Stub(list(replies))
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            stub.paths.append(self.path)
            stub.headers.append(dict(self.headers))
            stub.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            reply = stub.replies.pop(0) if len(stub.replies) > 1 else stub.replies[0]
            done.wait(reply.wait)
            body = reply.body if isinstance(reply.body, bytes) else str(reply.body).encode()
            try:
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                for start in range(0, len(body), 1 if reply.drip else max(1, len(body))):
                    self.wfile.write(body[start : start + (1 if reply.drip else len(body))])
                    if reply.drip:
                        self.wfile.flush()
                        time.sleep(reply.drip)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        done.set()
        server.shutdown()
        server.server_close()
        thread.join()
