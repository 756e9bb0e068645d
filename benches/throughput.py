"""Produces and consumes 1 KiB records with a real client (librdkafka), Alluvium beside Apache Kafka.

usage: target/test-env/venv/bin/python benches/throughput.py [--mib 256] [--rounds 3]
           [--store file|memory] [--only alluvium|kafka] [--latency 500]

Needs `cargo build --release` and `tests/provision`. The two servers run in turn, A B A B, on the same
machine and the same disk; figures are ratios of a round's two runs, given as min, median and max.
Also prints what the server holds in memory when idle, during the load and after it, and how long a
producer waits that sends one record at a time with acks=all, beside what a synchronous append of
4 KiB to a file takes on the same disk in the same minute.
"""

import argparse
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

ROOT = pathlib.Path(__file__).resolve().parent.parent
PARTITIONS = 8
RECORD = os.urandom(512).hex().encode()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["VmRSS"].split()[0]) // 1024, int(fields["VmHWM"].split()[0]) // 1024


class Server:
    def __init__(self, name, command, port):
        self.name, self.port = name, port
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        self.address = f"127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        while True:
            try:
                admin.describe_cluster(request_timeout=2).result(3)
                break
            except Exception:
                if time.monotonic() > deadline:
                    self.process.kill()
                    raise
                time.sleep(0.2)
        time.sleep(1)
        self.idle = resident(self.process.pid)[0]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def alluvium(folder, store):
    port = free_port()
    command = [os.environ.get("ALLUVIUM", ROOT / "target/release/alluvium"), "dev", "--data-dir", folder / "alluvium"]
    command += ["--kafka", f"127.0.0.1:{port}", "--http", "127.0.0.1:0"]
    if store == "memory":
        command += ["--store", "memory://"]
    return Server("alluvium", command, port)


def kafka(folder):
    port, controller = free_port(), free_port()
    classpath = (ROOT / "target/test-env/kafka-tools.classpath").read_text().strip()
    config = folder / "kafka.properties"
    config.write_text(
        "process.roles=broker,controller\nnode.id=1\n"
        f"controller.quorum.voters=1@127.0.0.1:{controller}\n"
        f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n"
        "controller.listener.names=CONTROLLER\noffsets.topic.replication.factor=1\n"
        f"log.dirs={folder / 'kafka'}\n"
    )
    java = ["java", "-Xmx1g", "-cp", classpath]
    subprocess.run(
        java + ["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAQACAAAAAAAAAAQ", "-c", config],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return Server("kafka", java + ["kafka.Kafka", config], port)


class Memory(threading.Thread):
    """Samples what a process holds, four times a second."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.samples, self.over = pid, [], threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.25):
            self.samples.append(resident(self.pid)[0])

    def quarters(self):
        """The median of each quarter of the load: flat memory shows as four like figures."""
        self.over.set()
        self.join()
        size = max(1, len(self.samples) // 4)
        parts = [self.samples[start : start + size] for start in range(0, size * 4, size)]
        return " ".join(f"{statistics.median(part):.0f}" for part in parts if part)


def percentiles(seconds):
    ordered = sorted(seconds)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]


def disk_sync(folder, count):
    """How long an append of 4 KiB with fdatasync takes: the floor of every durable answer."""
    took = []
    with open(folder / "floor", "wb", buffering=0) as file:
        for _ in range(count):
            started = time.monotonic()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            took.append(time.monotonic() - started)
    return percentiles(took)


def latency(address, topic, count):
    """How long a producer waits that sends one record, acks=all, and goes on when it is answered."""
    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 0})
    took = []
    for number in range(count + 20):
        started = time.monotonic()
        producer.produce(topic, RECORD, partition=0)
        assert producer.flush(30) == 0
        if number >= 20:
            took.append(time.monotonic() - started)
    return percentiles(took)


def produce(address, topic, records):
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
    producer = Producer(
        {
            "bootstrap.servers": address,
            "enable.idempotence": True,
            "linger.ms": 20,
            "batch.size": 1_000_000,
            "queue.buffering.max.kbytes": 262_144,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    started = time.monotonic()
    for number in range(records):
        while True:
            try:
                producer.produce(topic, RECORD, partition=number // 500 % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.05)
    assert producer.flush(300) == 0
    return time.monotonic() - started


def consume(address, topic, records):
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "bench",
            "fetch.message.max.bytes": 1 << 20,
            "queued.max.messages.kbytes": 262_144,
        }
    )
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
    started = time.monotonic()
    seen = 0
    while seen < records:
        messages = consumer.consume(min(10_000, records - seen), 60.0)
        assert messages, f"only {seen} of {records} records are there"
        for message in messages:
            assert message.error() is None, message.error()
            seen += 1
    elapsed = time.monotonic() - started
    consumer.close()
    return elapsed


def spread(values):
    return f"min {min(values):.2f}  median {statistics.median(values):.2f}  max {max(values):.2f}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--store", choices=["file", "memory"], default="file")
    parser.add_argument("--only", choices=["alluvium", "kafka"])
    parser.add_argument("--latency", type=int, default=500, help="records sent one at a time")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="throughput-", dir=ROOT / "target"))
    servers = []
    try:
        if args.only != "kafka":
            servers.append(alluvium(folder, args.store))
        if args.only != "alluvium":
            servers.append(kafka(folder))
        for server in servers:
            print(f"{server.name:9} idle: {server.idle} MiB", flush=True)
        throughput(servers, args)
        if args.latency:
            latencies(servers, folder, args)
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def throughput(servers, args):
    records = args.mib * 1024
    times = {server.name: {"produce": [], "consume": []} for server in servers}
    for turn in range(args.rounds):
        for server in servers:
            topic = f"bench-{turn}"
            for what, work in (("produce", produce), ("consume", consume)):
                memory = Memory(server.process.pid)
                rate = args.mib / work(server.address, topic, records)
                times[server.name][what].append(rate)
                now, peak = resident(server.process.pid)
                print(
                    f"{server.name:9} round {turn}: {what} {rate:.0f} MiB/s, resident by quarter of "
                    f"the load {memory.quarters()} MiB, after it {now}, highest {peak}",
                    flush=True,
                )
    if len(servers) == 2:
        for what in ("produce", "consume"):
            pairs = zip(times["alluvium"][what], times["kafka"][what], strict=True)
            print(f"{what}: Alluvium / Kafka {spread([ours / theirs for ours, theirs in pairs])}")


def latencies(servers, folder, args):
    for turn in range(args.rounds):
        floor = disk_sync(folder, args.latency)
        print(f"fdatasync round {turn}: p50 {floor[0] * 1e3:.2f} ms, p99 {floor[1] * 1e3:.2f} ms")
        for server in servers:
            took = latency(server.address, "bench-0", args.latency)
            ratios = [mine / theirs for mine, theirs in zip(took, floor, strict=True)]
            print(
                f"{server.name:9} round {turn}: one record p50 {took[0] * 1e3:.2f} ms, p99 "
                f"{took[1] * 1e3:.2f} ms; over fdatasync {ratios[0]:.1f} and {ratios[1]:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
