"""Consume, transform, produce, exactly once, while workers are killed.

usage: eos.py drive ADDRESSES SECONDS NAME [COMMAND ...]
       eos.py work ADDRESSES NAME SLOT

The driver writes numbered records, runs three workers in one group (this program's own, or COMMAND with the
arguments of `work` behind it), kills one of them every few seconds with SIGKILL and starts it again under the
same transactional id. Each worker moves records in transactions: every record goes to two topics, with the
transaction's name and how many records it moves. A reader of committed records follows all the while.

In the end each record must be in both topics once, and whatever the reader saw of a transaction must be the
whole of it. Prints a verdict as JSON; exits with 1 if anything is wrong.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 6
WORKERS = 3
RATE = 150
PATIENCE = 120


def names(name):
    return f"{name}-in", f"{name}-left", f"{name}-right"


def work(addresses, name, slot):
    source, left, right = names(name)
    running = True

    def stop(_signal, _frame):
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)

    def start():
        producer = Producer(
            {
                "bootstrap.servers": addresses,
                "transactional.id": f"{name}-{slot}",
                "transaction.timeout.ms": 15000,
                "linger.ms": 1,
            }
        )
        while running:
            try:
                producer.init_transactions(20)
                return producer
            except KafkaException as error:
                print("init", error, file=sys.stderr, flush=True)
                if error.args[0].fatal():
                    raise
        return producer

    consumer = Consumer(
        {
            "bootstrap.servers": addresses,
            "group.id": name,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 8000,
            "heartbeat.interval.ms": 1000,
        }
    )
    consumer.subscribe([source])
    producer = start()
    while running:
        messages = [it for it in consumer.consume(50, 0.2) if it.error() is None]
        if not messages:
            continue
        try:
            transaction = uuid.uuid4().hex
            producer.begin_transaction()
            for message in messages:
                text = f"{message.value().decode()} {transaction} {len(messages)}"
                producer.produce(left, text, partition=message.partition())
                producer.produce(right, text, key=message.value())
            producer.send_offsets_to_transaction(
                consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 20
            )
            while True:
                try:
                    producer.commit_transaction(20)
                    break
                except KafkaException as error:
                    if not error.args[0].retriable():
                        raise
        except (KafkaException, BufferError) as failure:
            print("again", failure, file=sys.stderr, flush=True)
            error = failure.args[0]
            try:
                if isinstance(failure, KafkaException) and error.fatal():
                    raise failure
                while True:
                    try:
                        producer.abort_transaction(20)
                        break
                    except KafkaException as abort:
                        if not abort.args[0].retriable():
                            raise
            except KafkaException:
                producer = start()
            back(consumer)
    consumer.close()


def back(consumer):
    """Goes back to what was committed."""
    while True:
        try:
            for place in consumer.committed(consumer.assignment(), 20):
                if place.offset < 0:
                    place.offset = 0
                consumer.seek(place)
            return
        except KafkaException as error:
            print("back", error, file=sys.stderr, flush=True)
            time.sleep(0.2)


class Reader:
    """Follows both topics, committed records only."""

    def __init__(self, addresses, topics):
        self.consumer = Consumer(
            {
                "bootstrap.servers": addresses,
                "group.id": uuid.uuid4().hex,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
            }
        )
        places = [TopicPartition(it, part, 0) for it in topics for part in range(PARTITIONS)]
        self.consumer.assign(places)
        self.seen = {topic: [] for topic in topics}
        self.running = True
        self.thread = threading.Thread(target=self.follow)
        self.thread.start()

    def follow(self):
        while self.running:
            for message in self.consumer.consume(500, 0.2):
                if message.error() is None:
                    self.seen[message.topic()].append(message.value().decode())

    def finish(self):
        self.running = False
        self.thread.join()
        self.consumer.close()


class Workers:
    def __init__(self, command, addresses, name):
        self.lines = [command + [addresses, name, str(slot)] for slot in range(WORKERS)]
        log = os.environ.get("EOS_LOG")
        self.log = open(f"{log}-{name}.log", "a") if log else subprocess.DEVNULL
        self.processes = [self.start(slot) for slot in range(WORKERS)]
        self.kills = 0

    def start(self, slot):
        return subprocess.Popen(
            self.lines[slot], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )

    def kill(self, slot):
        if self.processes[slot].poll() is not None:
            raise SystemExit(f"worker {slot} has ended by itself: {self.processes[slot].returncode}")
        self.processes[slot].kill()
        self.processes[slot].wait()
        self.kills += 1
        self.processes[slot] = self.start(slot)

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def judge(seen, count):
    """What is wrong, and what is missing."""
    wrong, missing = [], 0
    for topic, values in seen.items():
        times = Counter(int(value.split()[0]) for value in values)
        wrong += [f"{topic}: {number} {n} times" for number, n in times.items() if n > 1]
        missing += count - len(times)
    sizes = defaultdict(lambda: [0, 0, 0])
    for place, values in enumerate(seen.values()):
        for value in values:
            _, transaction, size = value.split()
            sizes[transaction][place] += 1
            sizes[transaction][2] = int(size)
    torn = [name for name, (left, right, size) in sizes.items() if left != size or right != size]
    return wrong, missing, torn, len(sizes)


def drive(addresses, seconds, name, command):
    source, left, right = names(name)
    admin = AdminClient({"bootstrap.servers": addresses})
    made = admin.create_topics([NewTopic(it, PARTITIONS, 1) for it in (source, left, right)])
    for each in made.values():
        each.result()
    draw = random.Random(7)
    reader = Reader(addresses, [left, right])
    workers = Workers(command, addresses, name)
    producer = Producer({"bootstrap.servers": addresses, "enable.idempotence": True, "delivery.timeout.ms": 600000})
    count, begun, next_kill = 0, time.time(), 6
    while time.time() - begun < seconds:
        for _ in range(RATE // 10):
            producer.produce(source, str(count), partition=count % PARTITIONS)
            count += 1
        producer.poll(0)
        if time.time() - begun > next_kill:
            workers.kill(draw.randrange(WORKERS))
            next_kill += 5 + draw.random() * 4
        time.sleep(0.1)
    if producer.flush(60) > 0:
        raise SystemExit("the input could not be written")
    deadline = time.time() + PATIENCE
    while time.time() < deadline:
        wrong, missing, torn, _ = judge(reader.seen, count)
        if missing == 0 and not torn:
            break
        time.sleep(0.5)
    workers.stop()
    time.sleep(2)
    reader.finish()
    wrong, missing, torn, transactions = judge(reader.seen, count)
    verdict = {
        "records": count,
        "transactions": transactions,
        "kills": workers.kills,
        "missing": missing,
        "wrong": wrong[:10],
        "torn": torn[:10],
        "good": not (wrong or missing or torn),
    }
    print(json.dumps(verdict))
    sys.exit(0 if verdict["good"] else 1)


if sys.argv[1] == "work":
    work(*sys.argv[2:5])
else:
    own = [sys.executable, __file__, "work"]
    drive(sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5:] or own)
