"""Produces and consumes 1 KiB records with a real client (librdkafka), Alluvium beside Apache Kafka.

usage: target/test-env/venv/bin/python benches/throughput.py [--mib 256] [--rounds 3] [--store file|memory]

Needs `cargo build --release` and `tests/provision`. The two servers run in turn, A B A B, on the same
machine and the same disk; figures are ratios of a round's two runs, given as min, median and max.
Also prints what the server holds in memory when idle, at its highest, and after the load.
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
                admin.list_topics(timeout=2)
                break
            except Exception:
                assert time.monotonic() < deadline, f"{name} did not start"
                time.sleep(0.2)
        time.sleep(1)
        self.idle = resident(self.process.pid)[0]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def alluvium(folder, store):
    port = free_port()
    command = [ROOT / "target/release/alluvium", "dev", "--data-dir", folder / "alluvium"]
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
        for message in consumer.consume(10_000, 5.0):
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
    args = parser.parse_args()
    records = args.mib * 1024
    folder = pathlib.Path(tempfile.mkdtemp(prefix="throughput-", dir=ROOT / "target"))
    servers = [alluvium(folder, args.store), kafka(folder)]
    times = {server.name: {"produce": [], "consume": []} for server in servers}
    try:
        for turn in range(args.rounds):
            for server in servers:
                topic = f"bench-{turn}"
                took = {
                    "produce": produce(server.address, topic, records),
                    "consume": consume(server.address, topic, records),
                }
                for what, seconds in took.items():
                    times[server.name][what].append(args.mib / seconds)
                now, peak = resident(server.process.pid)
                print(
                    f"{server.name:9} round {turn}: produce {args.mib / took['produce']:.0f} MiB/s, "
                    f"consume {args.mib / took['consume']:.0f} MiB/s, "
                    f"resident {now} MiB (idle {server.idle}, highest {peak})",
                    flush=True,
                )
        for what in ("produce", "consume"):
            pairs = zip(times["alluvium"][what], times["kafka"][what], strict=True)
            print(f"{what}: Alluvium / Kafka {spread([ours / theirs for ours, theirs in pairs])}")
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
