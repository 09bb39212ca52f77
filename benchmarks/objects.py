"""Measure the cost of writing to an object store, compared with bare puts of the same bytes at the same concurrency.

The server is moto, a local S3 in a separate process. Absolute rates depend on moto and the machine; the ratios show
docid's share. The server counts the puts. Memory is the peak of the process that writes the documents.
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


def make_document(number: int) -> Document:
    return Document(
        stage="draft",
        doc_id=f"d{number}",
        task_id=f"task-{number}",
        raw_text=RAW,
        parsed_text=PARSED,
        prompt_text=PROMPT,
    )


def measure_puts(server: Moto, url: str, number: int, in_flight: int) -> float:
    """Return the seconds that bare puts of the same objects take, in `in_flight` threads."""
    options: dict[str, Any] = server.options()
    store = from_url(url, **options)
    objects = []
    for each in map(make_document, range(number)):
        record, parts = Record.from_document(each, nonce())
        objects.append((f"draft/{each.doc_id}.json", pack(record.to_bytes(), parts)))

    def put(named: tuple[str, bytes]) -> None:
        obstore.put(store, *named, mode="create", use_multipart=False)

    with ThreadPoolExecutor(in_flight) as threads:
        start = time.perf_counter()
        for _ in threads.map(put, objects):
            pass
        return time.perf_counter() - start


def measure_write_many(server: Moto, url: str, number: int, in_flight: int) -> float:
    """Return the seconds that `write_many` takes."""
    store = DocsStore(ObjectsBackend(url, options=server.options(), in_flight=in_flight))
    start = time.perf_counter()
    store.write_many(map(make_document, range(number)))
    return time.perf_counter() - start


def measure_process(url: str, number: int, in_flight: int) -> None:
    """Write, read, list and audit in this process; print its peak memory in MB, and the rates."""
    store = DocsStore(ObjectsBackend(url, in_flight=in_flight))
    results: dict[str, float] = {}

    def read_peak() -> float:
        # getrusage would include the process that started this one.
        return float(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024

    start = time.perf_counter()
    store.write_many(map(make_document, range(number)))
    results["write_many, MB"], results["write_many, documents/s"] = read_peak(), number / (time.perf_counter() - start)
    start = time.perf_counter()
    assert sum(1 for _ in store.documents("draft")) == number
    results["documents, MB"], results["documents, documents/s"] = read_peak(), number / (time.perf_counter() - start)
    start = time.perf_counter()
    assert sum(1 for _ in store.ids("draft")) == number
    results["ids, MB"], results["ids, names/s"] = read_peak(), number / (time.perf_counter() - start)
    start = time.perf_counter()
    assert audit(store).stages["draft"].documents == number
    results["audit, MB"], results["audit, documents/s"] = read_peak(), number / (time.perf_counter() - start)
    print(json.dumps(results))


def measure_memory_audit(number: int) -> float:
    """Return the rate of an audit of `memory://` in documents per second, which is docid's own share of the time."""
    store = DocsStore("memory://")
    store.write_many(map(make_document, range(number)))
    start = time.perf_counter()
    assert audit(store).stages["draft"].documents == number
    return number / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000, help="documents to write (default: 10,000)")
    parser.add_argument("--object-turns", type=int, default=7)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    options, _ = parser.parse_known_args()
    if options.alone:
        measure_process(options.alone[0], int(options.alone[1]), options.in_flight)
        return
    print(f"audit of memory://, no server: {measure_memory_audit(options.objects):,.0f} documents/s")
    with moto() as server:
        ratios = []
        for turn in range(options.object_turns):
            own = measure_write_many(server, server.bucket(), options.objects // 10, options.in_flight)
            other = measure_puts(server, server.bucket(), options.objects // 10, options.in_flight)
            if turn:  # the first turn is a warm-up
                ratios.append(other / own)
        print(f"objects: {options.objects // 10:,} documents of 10 kB per turn, {options.in_flight} requests at once")
        print(
            f"  rate of write_many / rate of bare puts {statistics.median(ratios):.2f} "
            f"(min {min(ratios):.2f}, max {max(ratios):.2f})"
        )
        for number in (options.objects // 10, options.objects):
            server.counts()
            command = [sys.executable, __file__, "--alone", server.bucket(), str(number)]
            command += ["--in-flight", str(options.in_flight)]
            environment = {**os.environ, **server.environment()}
            results = json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)
            counts = server.counts()
            puts, gets = counts["PUT"] / number, counts["GET"] / number
            print(f"  {number:,} documents: {puts:.3f} puts, {gets:.3f} gets per document")
            for name, value in results.items():
                print(f"    {name:<28}{value:10,.1f}")


if __name__ == "__main__":
    main()
