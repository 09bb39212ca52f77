"""Object-store servers on loopback, each in its own process."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# The application of `moto_server`, which also counts requests by method. GET /_docid/counts returns and resets the
# counts; no bucket has that name.
_MOTO = """
import collections, json, sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

moto = DomainDispatcherApplication(create_backend_app)
counts = collections.Counter()
one_at_a_time = threading.Lock()

def application(environ, start):
    path = environ["PATH_INFO"]
    if path == "/_docid/counts":
        body = json.dumps(counts)
        counts.clear()
        return Response(body)(environ, start)
    counts[environ["REQUEST_METHOD"]] += 1
    # S3 handles a conditional put atomically; moto checks first and then writes, in several threads.
    with one_at_a_time:
        return list(moto(environ, start))

class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    def log(self, *_): pass

server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
print(server.server_port, flush=True)
server.serve_forever()
"""

CREDENTIALS = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "a-secret-of-the-tests", "region": "us-east-1"}
SECRET = CREDENTIALS["secret_access_key"]

PATIENCE = 0.5  # seconds until a request through the proxy times out


class Moto:
    """moto in server mode: S3 in the memory of a process."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.buckets = 0

    def options(self, **others: object) -> dict[str, object]:
        """Return the options that a store needs to connect."""
        return {
            **CREDENTIALS,
            "endpoint": self.endpoint,
            "client_options": {"allow_http": True, "timeout": "20 seconds"},
            **others,
        }

    def environment(self) -> dict[str, str]:
        """Return the same options as environment variables."""
        return {
            "AWS_ACCESS_KEY_ID": CREDENTIALS["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": CREDENTIALS["secret_access_key"],
            "AWS_REGION": CREDENTIALS["region"],
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
        }

    def bucket(self) -> str:
        """Make a bucket, and return the URL of a store in it."""
        self.buckets += 1
        name = f"bucket-{self.buckets}"
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method="PUT"), timeout=30).read()
        return f"s3://{name}/some/place"

    def counts(self) -> dict[str, int]:
        """Return the number of requests per HTTP method since the last call."""
        with urllib.request.urlopen(f"{self.endpoint}/_docid/counts", timeout=30) as answer:
            return dict(json.load(answer))


@contextmanager
def moto() -> Iterator[Moto]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _MOTO],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")},
    )
    try:
        assert process.stdout is not None
        server = Moto(int(process.stdout.readline()))
        for _ in range(100):
            try:
                server.counts()
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        yield server
    finally:
        process.kill()
        process.communicate()


def azurite_program() -> Path | None:
    """Return the path of Azurite, Azure's emulator with blobs on disk; npm installs it if it is missing."""
    place = Path(os.environ.get("DOCID_AZURITE") or Path(__file__).parent.parent / ".azurite")
    program = place / "node_modules" / ".bin" / "azurite-blob"
    npm = shutil.which("npm")
    if not program.exists() and npm is not None:
        command = [npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(place), "azurite@3"]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600)
    return program if program.exists() else None


class Azurite:
    """Azure's blob storage with its blobs in a directory; it can be stopped and restarted."""

    # The account of every Azurite, with the key that Microsoft publishes.
    ACCOUNT = "devstoreaccount1"
    KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def __init__(self, program: Path, directory: Path) -> None:
        self.program = program
        self.directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}/{self.ACCOUNT}"
        self.process: subprocess.Popen[bytes] | None = None
        self.containers = 0

    def start(self) -> None:
        command = [str(self.program), "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
        command += ["--location", str(self.directory), "--blobPort", str(self.port)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        for _ in range(300):
            with socket.socket() as asking:
                if asking.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError("Azurite does not start")

    def end(self) -> None:
        """Stop it as an orderly shutdown does: SIGTERM makes it save the data that is only in memory."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
            self.process = None

    def options(self, **others: object) -> dict[str, object]:
        """Return the options that a store needs to connect."""
        return {
            "account_name": self.ACCOUNT,
            "account_key": self.KEY,
            "endpoint": self.endpoint,
            "client_options": {"allow_http": True},
            **others,
        }

    def container(self) -> str:
        """Make a container, and return the URL of a store in it."""
        self.containers += 1
        name = f"container-{self.containers}"
        now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        signed = f"x-ms-date:{now}\nx-ms-version:2021-08-06\n/{self.ACCOUNT}/{self.ACCOUNT}/{name}\nrestype:container"
        text = "PUT" + "\n" * 12 + signed
        digest = hmac.new(base64.b64decode(self.KEY), text.encode(), hashlib.sha256).digest()
        headers = {
            "x-ms-date": now,
            "x-ms-version": "2021-08-06",
            "Authorization": f"SharedKey {self.ACCOUNT}:{base64.b64encode(digest).decode()}",
        }
        url = f"{self.endpoint}/{name}?restype=container"
        urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers), timeout=30).read()
        return f"az://{name}/some/place"


class Proxy:
    """A proxy that passes requests on to a server, or injects a fault.

    A fault is a status with an error code ("403 AccessDenied"), or one of the names below.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = int(upstream.rpartition(":")[2])
        self.faults: list[str] = []  # one per matching request, in order
        self.methods: tuple[str, ...] = ("PUT",)  # the methods that get faults
        self.seen = 0
        self.dropped = b"x-not-a-header"  # the header that does not reach the server
        self.after: Any = None  # called after a lost answer, before the client retries
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with connection:
            request = _read_request(connection)
            if not request:
                return
            fault = ""
            if request.split(b" ", 1)[0].decode() in self.methods:
                self.seen += 1
                fault = self.faults.pop(0) if self.faults else ""
            if fault[:3].isdigit():
                status, _, code = fault.partition(" ")
                body = f"<Error><Code>{code or 'SlowDown'}</Code><Message>secret: {SECRET}</Message></Error>".encode()
                head = f"HTTP/1.1 {status} No\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)
                return
            if fault == "closed":
                return
            request = re.sub(rb"(?im)^%b:.*\r\n" % self.dropped, b"", request)
            with socket.create_connection(("127.0.0.1", self.upstream)) as server:
                # The new header breaks the signature, which moto does not check.
                server.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
                answer = b"".join(iter(lambda: server.recv(1 << 16), b""))
            if fault == "answer lost":
                if self.after is not None:
                    self.after()
                return
            if fault == "slow":
                time.sleep(4 * PATIENCE)
            if fault == "answer torn":
                answer = answer[: len(answer) // 2]
            connection.sendall(answer)


def _read_request(connection: socket.socket) -> bytes:
    """Return one complete request."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(1 << 16)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    while len(body) < length:
        body += connection.recv(1 << 16)
    return head + b"\r\n\r\n" + body


@contextmanager
def run_proxy(server: Moto) -> Iterator[Proxy]:
    proxy = Proxy(server.endpoint)
    try:
        yield proxy
    finally:
        proxy.close()
