"""Real object-store servers on loopback, each a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

# The application that `moto_server` serves, with a count of requests by method and a wish for faults: the first
# segment of a path may be `_docid`, which is no bucket.
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
    # S3 decides a conditional put at once; moto looks first and writes then, in several threads.
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


class Moto:
    """moto in server mode: S3 in the memory of a process."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.buckets = 0

    def options(self, **others: object) -> dict[str, object]:
        """Return what a store takes to come here."""
        return {
            **CREDENTIALS,
            "endpoint": self.endpoint,
            "client_options": {"allow_http": True, "timeout": "20 seconds"},
            **others,
        }

    def environment(self) -> dict[str, str]:
        """Return the same as variables of the environment."""
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
        """Return how many requests of each method came since this was asked last."""
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
