"""What writing to an object store costs, beside bare puts of the same bytes at the same concurrency, on a local S3.

The server is moto, in a process of its own on loopback, started here: rates are of its making and this machine's, the
ratios are of docid's. Puts are counted by the server. Memory is the peak of a process that writes so many documents.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
from obstore.store import from_url

from docid import DocsStore, Document, audit
from docid.backends.objects import ObjectsBackend
from docid.core.record import Record, nonce
from docid.store.backends.objects.format import pack

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.servers import Moto, moto

RAW, PARSED, PROMPT = "r" * 5000, "p" * 3000, "q" * 2000


def document(number: int) -> Document:
    return Document(
        stage="draft",
        doc_id=f"d{number}",
        task_id=f"task-{number}",
        raw_text=RAW,
        parsed_text=PARSED,
        prompt_text=PROMPT,
    )


def bare(server: Moto, url: str, number: int, in_flight: int) -> float:
    """Return the seconds that puts of the same objects take, made beforehand, in as many threads."""
    options: dict[str, Any] = server.options()
    store = from_url(url, **options)
    objects = []
    for each in map(document, range(number)):
        record, parts = Record.from_document(each, nonce())
        objects.append((f"draft/{each.doc_id}.json", pack(record.to_bytes(), parts)))

    def put(named: tuple[str, bytes]) -> None:
        obstore.put(store, *named, mode="create", use_multipart=False)

    with ThreadPoolExecutor(in_flight) as threads:
        start = time.perf_counter()
        for _ in threads.map(put, objects):
            pass
        return time.perf_counter() - start


def written(server: Moto, url: str, number: int, in_flight: int) -> float:
    """Return the seconds that `write_many` takes."""
    store = DocsStore(ObjectsBackend(url, options=server.options(), in_flight=in_flight))
    start = time.perf_counter()
    store.write_many(map(document, range(number)))
    return time.perf_counter() - start


def alone(url: str, number: int, in_flight: int) -> None:
    """Write, read, list and audit in this process; print the peaks of its memory in MB, and the rates."""
    store = DocsStore(ObjectsBackend(url, in_flight=in_flight))
    told: dict[str, float] = {}

    def peak() -> float:
        # Of this program alone: what getrusage says includes the process that started it.
        return float(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024

    start = time.perf_counter()
    store.write_many(map(document, range(number)))
    told["write_many, MB"], told["write_many, documents/s"] = peak(), number / (time.perf_counter() - start)
    start = time.perf_counter()
    assert sum(1 for _ in store.documents("draft")) == number
    told["documents, MB"], told["documents, documents/s"] = peak(), number / (time.perf_counter() - start)
    start = time.perf_counter()
    assert sum(1 for _ in store.ids("draft")) == number
    told["ids, MB"], told["ids, names/s"] = peak(), number / (time.perf_counter() - start)
    start = time.perf_counter()
    assert audit(store).stages["draft"].documents == number
    told["audit, MB"], told["audit, documents/s"] = peak(), number / (time.perf_counter() - start)
    print(json.dumps(told))


def without_server(number: int) -> float:
    """Return how many documents a second an audit looks at where answers cost nothing: docid's own share."""
    store = DocsStore("memory://")
    store.write_many(map(document, range(number)))
    start = time.perf_counter()
    assert audit(store).stages["draft"].documents == number
    return number / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000, help="documents that are counted")
    parser.add_argument("--object-turns", type=int, default=7)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    options, _ = parser.parse_known_args()
    if options.alone:
        alone(options.alone[0], int(options.alone[1]), options.in_flight)
        return
    print(f"audit of memory://, no server: {without_server(options.objects):,.0f} documents/s")
    with moto() as server:
        ratios = []
        for turn in range(options.object_turns):
            own = written(server, server.bucket(), options.objects // 10, options.in_flight)
            other = bare(server, server.bucket(), options.objects // 10, options.in_flight)
            if turn:  # the first one is to get warm
                ratios.append(other / own)
        print(f"objects: {options.objects // 10:,} documents of 10 kB a turn, {options.in_flight} requests at once")
        print(
            f"  rate of write_many / rate of bare puts {statistics.median(ratios):.2f} "
            f"(min {min(ratios):.2f}, max {max(ratios):.2f})"
        )
        for number in (options.objects // 10, options.objects):
            server.counts()
            command = [sys.executable, __file__, "--alone", server.bucket(), str(number)]
            command += ["--in-flight", str(options.in_flight)]
            environment = {**os.environ, **server.environment()}
            told = json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)
            counts = server.counts()
            print(f"  {number:,} documents: {counts['PUT'] / number:.3f} puts, {counts['GET'] / number:.3f} gets each")
            for name, value in told.items():
                print(f"    {name:<28}{value:10,.1f}")


if __name__ == "__main__":
    main()
