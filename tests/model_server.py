"""A fake model: an OpenAI-compatible server on loopback, in threads of this process."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Request(NamedTuple):
    """One request: when it came in seconds, its header Authorization, and its body."""

    time: float
    key: str
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][0]["content"])


class ModelServer(ThreadingHTTPServer):
    """Answers `POST /v1/chat/completions`, with usage.

    Attributes:
        requests: all requests, in order of arrival.
        answered: the prompts that got a reply, in order; each of them is a paid call.
        most: the highest number of requests at the same time.
        seconds: the time that an answer takes.
        faults: the statuses of the next answers, such as 429 and 500.
        status: the status of all answers after these.
        content: returns the text of a reply, given the prompt.
        body: replaces the whole body of all answers.
        after: called after each reply is sent.
    """

    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.requests: list[Request] = []
        self.answered: list[str] = []
        self.most = 0
        self.seconds = 0.0
        self.faults: deque[int] = deque()
        self.status = 200
        self.content: Callable[[str], str | None] = lambda prompt: f"A reply to: {prompt}"
        self.body: bytes | None = None
        self.after: Callable[[], object] = lambda: None
        self._now = 0
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point the client `openai` to this server."""
        return {"OPENAI_BASE_URL": self.url, "OPENAI_API_KEY": "a-key-of-the-tests"}

    def answer(self, request: Request) -> tuple[int, bytes]:
        """Return the status and the body of an answer."""
        with self._lock:
            self.requests.append(request)
            self._now += 1
            self.most = max(self.most, self._now)
            status = self.faults.popleft() if self.faults else self.status
        time.sleep(self.seconds)
        with self._lock:
            self._now -= 1
            if status == 200:
                self.answered.append(request.prompt)
        if self.body is not None:
            return status, self.body
        if status != 200:
            return status, json.dumps({"error": {"message": f"answer {status}", "code": str(status)}}).encode()
        content = self.content(request.prompt)
        usage = {"prompt_tokens": len(request.prompt.split()), "completion_tokens": len((content or "").split())}
        reply = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": f"{request.body['model']}-served",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
            "usage": {**usage, "total_tokens": sum(usage.values())},
        }
        return status, json.dumps(reply).encode()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: a client may be killed during its call."""

    def close(self) -> None:
        """Stop, and close the connections that clients keep open."""
        self.shutdown()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):  # the client has closed it
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open, as providers do
    disable_nagle_algorithm = True
    server: ModelServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            status, answer = 404, b"{}"
        else:
            status, answer = self.server.answer(Request(time.monotonic(), str(self.headers["Authorization"]), body))
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.server.after()

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def run_model() -> Iterator[ModelServer]:
    """Run a server."""
    server = ModelServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()
