"""Kafka Connect on a server: lines of a file go through a topic into another file.

usage: connect.py ADDRESS CLASSPATH DIRECTORY standalone|distributed|exactly-once

A worker copies lines, is stopped, and goes on where it was when it is started again: every line comes out
once. In the distributed mode its settings, offsets and states lie in topics that it makes by itself. With
exactly-once there are two such workers, whose source writes transactions; the one that runs the source is
killed, twice, and the topic must have every line once and in order. Prints what was seen as JSON.
"""

import atexit
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

address, classpath, folder, mode = sys.argv[1:5]
folder = Path(folder)
source, sink = folder / f"{mode}-source.txt", folder / f"{mode}-sink.txt"
topic = f"{mode}-lines"
PATIENCE = 90
KINDS = {"config": "configs", "offset": "offsets", "status": "status"}

COMMON = {
    "bootstrap.servers": address,
    "key.converter": "org.apache.kafka.connect.storage.StringConverter",
    "value.converter": "org.apache.kafka.connect.storage.StringConverter",
    "offset.flush.interval.ms": "500",
    "plugin.discovery": "service_load",
}
CONNECTORS = {
    f"{mode}-source": {
        "connector.class": "FileStreamSource",
        "tasks.max": "1",
        "file": str(source),
        "topic": topic,
    },
    f"{mode}-sink": {
        "connector.class": "FileStreamSink",
        "tasks.max": "1",
        "file": str(sink),
        "topics": topic,
    },
}
if mode == "exactly-once":
    CONNECTORS[f"{mode}-source"]["exactly.once.support"] = "required"
    # What a killed source leaves open holds up whoever reads its offsets, until another one runs it.
    CONNECTORS[f"{mode}-source"]["producer.override.transaction.timeout.ms"] = "10000"


def properties(name, settings):
    path = folder / f"{mode}-{name}.properties"
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    return str(path)


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


class Worker:
    def __init__(self):
        self.port = free_port()
        common = {**COMMON, "listeners": f"http://127.0.0.1:{self.port}"}
        if mode == "standalone":
            main = "ConnectStandalone"
            worker = {**common, "offset.storage.file.filename": str(folder / "offsets")}
            files = [properties("worker", worker)]
            for name, settings in CONNECTORS.items():
                files.append(properties(name, {"name": name, **settings}))
        else:
            main = "ConnectDistributed"
            worker = {
                **common,
                "group.id": f"{mode}-workers",
                "heartbeat.interval.ms": "1000",
                "session.timeout.ms": "6000",
                "scheduled.rebalance.max.delay.ms": "1000",
            }
            if mode == "exactly-once":
                worker["exactly.once.source.support"] = "enabled"
            for kind, plural in KINDS.items():
                worker[f"{kind}.storage.topic"] = f"{mode}-{plural}"
                worker[f"{kind}.storage.replication.factor"] = "1"
            files = [properties(f"worker-{self.port}", worker)]
        self.log = open(folder / f"{mode}-worker.log", "a")
        self.process = subprocess.Popen(
            ["java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", classpath]
            + [f"org.apache.kafka.connect.cli.{main}"]
            + files,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        atexit.register(self.process.kill)

    def ask(self, method, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def until(self, what, holds):
        deadline = time.time() + PATIENCE
        while True:
            if self.process.poll() is not None:
                raise SystemExit(f"the worker has ended with {self.process.returncode}")
            try:
                if holds():
                    return
            except (urllib.error.URLError, ConnectionError, OSError):
                pass
            if time.time() > deadline:
                raise SystemExit(f"gave up waiting for {what}")
            time.sleep(0.2)

    def is_ready(self):
        self.until("the worker", lambda: self.ask("GET", "/connectors") is not None)

    def run_connectors(self):
        self.is_ready()
        for name, settings in CONNECTORS.items():
            # A new worker may still be on its way into its group.
            def put():
                self.ask("PUT", f"/connectors/{name}/config", settings)
                return True

            self.until(name, put)

    def states(self):
        found = {}
        for name in CONNECTORS:
            status = self.ask("GET", f"/connectors/{name}/status")
            found[name] = [status["connector"]["state"]] + [it["state"] for it in status["tasks"]]
        return found

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)


def lines():
    return sink.read_text().splitlines() if sink.exists() else []


def write(first, last):
    with open(source, "a") as out:
        for number in range(first, last):
            out.write(f"line {number}\n")


def written():
    """Every line that the topic has, of committed transactions only."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, it, 0) for it in partitions])
    found, ended = [], set()
    while len(ended) < len(partitions):
        message = consumer.poll(30)
        if message is None:
            raise SystemExit("the topic cannot be read")
        if message.error() is None:
            found.append(message.value().decode())
        elif message.error().code() == KafkaError._PARTITION_EOF:
            ended.add(message.partition())
        else:
            raise SystemExit(f"the topic cannot be read: {message.error()}")
    consumer.close()
    return found


def stop_and_go_on():
    write(0, 200)
    worker = Worker()
    if mode == "distributed":
        worker.run_connectors()
    worker.until("two hundred lines", lambda: len(lines()) >= 200)
    worker.until("running tasks", lambda: all(it == ["RUNNING", "RUNNING"] for it in worker.states().values()))
    states = worker.states()
    # What was sent is remembered before it is asked to stop.
    time.sleep(1)
    worker.stop()
    write(200, 300)
    worker = Worker()
    worker.until("three hundred lines", lambda: len(lines()) >= 300)
    time.sleep(1)
    kept = sorted(worker.ask("GET", "/connectors"))
    worker.stop()
    expected = [f"line {number}" for number in range(300)]
    return {"states": states, "kept": kept, "lines": len(lines()), "whole": lines() == expected}


def kill_and_go_on():
    workers = [Worker(), Worker()]
    workers[0].run_connectors()
    count, over = 0, threading.Event()

    def go_on_writing():
        nonlocal count
        while not over.is_set():
            write(count, count + 5)
            count += 5
            time.sleep(0.05)

    writer = threading.Thread(target=go_on_writing, daemon=True)
    writer.start()
    killed = []
    for _ in range(2):
        before = len(lines())
        workers[0].until("lines that come", lambda: len(lines()) > before + 50)
        for worker in workers:
            worker.is_ready()
        status = workers[0].ask("GET", f"/connectors/{mode}-source/status")
        port = int(status["tasks"][0]["worker_id"].rsplit(":", 1)[1])
        victim = next(it for it in workers if it.port == port)
        victim.process.kill()
        victim.process.wait()
        killed.append(port)
        workers.remove(victim)
        workers.append(Worker())
    before = len(lines())
    workers[0].until("lines that come", lambda: len(lines()) > before + 50)
    over.set()
    writer.join()
    workers[0].until("all lines", lambda: len(set(lines())) >= count)
    for worker in workers:
        worker.stop()
    expected = [f"line {number}" for number in range(count)]
    seen = written()
    return {
        "kills": len(killed),
        "lines": count,
        "written": len(seen),
        "once": seen == expected,
        "missing": len(set(expected) - set(lines())),
    }


print(json.dumps(kill_and_go_on() if mode == "exactly-once" else stop_and_go_on()))
