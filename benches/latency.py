"""How long producers wait, on a store as slow as a cloud's and on the low-latency lane.

usage: target/test-env/venv/bin/python benches/latency.py [--seconds 30] [--mib 16] [--profile standard]

Needs `cargo build --release` (or ALLUVIUM=path) and `tests/provision`. The store is a folder behind the
sick store, which makes requests as slow as those of a cloud's object store; what the folder takes
comes on top. Three producers, one after another, acks=all:

  load          several producers of 1 KiB records, --mib a second together, object lane
  sparse        one record at a time, two a second, object lane
  low latency   one record at a time in each of four connections, low-latency lane, above the inline budget

Each line says p50 and p99 of the time from send to acknowledgement, the figure that is asked for, and
whether it was kept. For the low-latency lane the floor is an append of 4 KiB with fdatasync on the same
disk in the same minute, and is added to what is asked for.
"""

import argparse
import os
import pathlib
import shutil
import tempfile
import threading
import time

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from throughput import ROOT, Server, disk_sync, free_port, percentiles

RECORD = os.urandom(512).hex().encode()


def start(folder, profile, sets):
    port = free_port()
    binary = os.environ.get("ALLUVIUM", ROOT / "target/release/alluvium")
    command = [binary, "dev", "--data-dir", folder / "data"]
    command += ["--kafka", f"127.0.0.1:{port}", "--http", "127.0.0.1:0"]
    command += ["--store", f"sick:{profile},seed=7:file://{folder / 'objects'}"]
    for setting in sets:
        command += ["--set", setting]
    return Server("alluvium", command, port)


def topic(server, name, lane):
    admin = AdminClient({"bootstrap.servers": server.address})
    config = {"alluvium.lane": lane}
    admin.create_topics([NewTopic(name, 8, 1, config=config)])[name].result()


def paced(address, name, seconds, rate, waits):
    """Sends `rate` records a second and notes how long each waited."""
    producer = Producer({"bootstrap.servers": address, "acks": "all", "linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
    begun = time.monotonic()
    sent = 0
    while (now := time.monotonic()) - begun < seconds:
        while sent < (now - begun) * rate:
            sent_at = time.monotonic()

            def delivered(error, _message, sent_at=sent_at):
                if error is not None:
                    raise SystemExit(f"not delivered: {error}")
                waits.append(time.monotonic() - sent_at)

            producer.produce(name, RECORD, partition=sent % 8, on_delivery=delivered)
            sent += 1
            if sent % 64 == 0:
                producer.poll(0)
        producer.poll(0.002)
    producer.flush(60)


def one_by_one(address, name, seconds, pause, waits):
    producer = Producer({"bootstrap.servers": address, "acks": "all", "linger.ms": 0})
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        sent_at = time.monotonic()
        producer.produce(name, RECORD, partition=number % 8, on_delivery=lambda *_: None)
        producer.flush(60)
        waits.append(time.monotonic() - sent_at)
        number += 1
        time.sleep(pause)


def together(target, count, *arguments):
    waits = []
    threads = [threading.Thread(target=target, args=(*arguments, waits)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # What a connection costs at its beginning is not what is asked.
    return waits[len(waits) // 10 :]


def verdict(name, waits, p50, p99, floor=(0, 0)):
    seen = percentiles(waits)
    within = [p50 / 1000 + floor[0] if p50 else None, p99 / 1000 + floor[1] if p99 else None]
    kept = all(limit is None or value <= limit for value, limit in zip(seen, within))
    asked = " / ".join("-" if limit is None else f"{limit * 1000:.1f}" for limit in within)
    print(
        f"{name:12} p50 {seen[0] * 1000:7.1f} ms  p99 {seen[1] * 1000:7.1f} ms  asked {asked} ms"
        f"  {len(waits)} records  {'kept' if kept else 'FALLS SHORT'}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--mib", type=float, default=16)
    parser.add_argument("--profile", default="standard")
    arguments = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(dir=ROOT / "target"))
    try:
        server = start(folder, arguments.profile, [])
        topic(server, "objects", "object")
        rate = arguments.mib * 1024 / 4
        waits = together(paced, 4, server.address, "objects", arguments.seconds, rate)
        verdict("load", waits, 180, 330)
        waits = together(one_by_one, 1, server.address, "objects", arguments.seconds, 0.5)
        verdict("sparse", waits, 60, None)
        server.stop()
        # A new cluster: a bucket that holds the archive of another is refused.
        for part in ("data", "objects"):
            shutil.rmtree(folder / part)
        server = start(folder, arguments.profile, ["flush.inline_bytes_per_second=0"])
        topic(server, "quick", "low-latency")
        floor = disk_sync(folder, 300)
        waits = together(one_by_one, 4, server.address, "quick", arguments.seconds, 0.005)
        print(f"fdatasync    p50 {floor[0] * 1000:7.1f} ms  p99 {floor[1] * 1000:7.1f} ms")
        verdict("low latency", waits, 4.5, 8, floor)
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
