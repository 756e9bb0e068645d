"""Consume, transform, produce, exactly once, while workers are killed.

usage: eos.py drive ADDRESSES SECONDS NAME [COMMAND ...]
       eos.py work ADDRESSES NAME SLOT

The driver writes numbered records, runs three workers in one group (this program's own, or COMMAND with the
arguments of `work` behind it), kills one of them every few seconds with SIGKILL and starts it again under the
same transactional id. Each worker moves records in transactions: every record goes to two topics, with the
transaction's name and how many records it moves. A reader of committed records follows all the while.

In the end each record must be in both topics once, and whatever the reader saw of a transaction must be the
whole of it; one topic has the partitions of the input, and must have their order. A second reader, from the
beginning, must see what the first one saw, and the group must have committed the whole input. Prints a verdict
as JSON; exits with 1 if anything is wrong.
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

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
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

    def end_with_the_driver():
        sys.stdin.read()
        os._exit(1)

    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=end_with_the_driver, daemon=True).start()

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
            "session.timeout.ms": 6000,
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
                    print("commit", error, file=sys.stderr, flush=True)
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
                        print("abort", abort, file=sys.stderr, flush=True)
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
    """Reads both topics from their beginning, committed records only."""

    def __init__(self, addresses, topics):
        self.consumer = Consumer(
            {
                "bootstrap.servers": addresses,
                "group.id": uuid.uuid4().hex,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
        places = [TopicPartition(it, part, 0) for it in topics for part in range(PARTITIONS)]
        self.consumer.assign(places)
        self.seen = {(it.topic, it.partition): [] for it in places}
        self.ended = set()
        self.running = True

    def follow(self):
        """Goes on reading in a thread, until it is finished."""
        self.thread = threading.Thread(target=self.read_while, args=[lambda: self.running], daemon=True)
        self.thread.start()

    def read_while(self, holds):
        while holds():
            for message in self.consumer.consume(500, 0.2):
                place = message.topic(), message.partition()
                if message.error() is None:
                    self.seen[place].append(message.value().decode())
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    self.ended.add(place)

    def read_all(self):
        """Reads every partition to its end."""
        deadline = time.time() + PATIENCE
        self.read_while(lambda: len(self.ended) < len(self.seen) and time.time() < deadline)
        self.consumer.close()
        if len(self.ended) < len(self.seen):
            raise SystemExit("the output cannot be read to its end")

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
        # A worker ends when its input does: with the driver, however that ends.
        return subprocess.Popen(
            self.lines[slot], stdin=subprocess.PIPE, stdout=self.log, stderr=self.log
        )

    def check(self):
        for slot, process in enumerate(self.processes):
            if process.poll() is not None:
                raise SystemExit(f"worker {slot} has ended by itself: {process.returncode}")

    def kill(self, slot):
        self.check()
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


def judge(seen, name, count):
    """What is wrong, what is missing, which transactions are torn, and how many there are."""
    wrong, missing = [], 0
    sizes = defaultdict(lambda: [0, 0, 0])
    _, left, right = names(name)
    for side, topic in enumerate((left, right)):
        times = Counter()
        for partition in range(PARTITIONS):
            highest = -1
            for value in seen[topic, partition]:
                number, transaction, size = value.split()
                number = int(number)
                times[number] += 1
                sizes[transaction][side] += 1
                sizes[transaction][2] = int(size)
                if topic == left and number < highest:
                    wrong.append(f"{topic}: {number} after {highest}")
                highest = max(highest, number)
        wrong += [f"{topic}: {number} {n} times" for number, n in times.items() if n > 1]
        missing += count - len(times)
    torn = [name for name, (left, right, size) in sizes.items() if left != size or right != size]
    return wrong, missing, torn, len(sizes)


def uncommitted(addresses, name, count):
    """How many records of the input the group has not committed."""
    source = names(name)[0]
    consumer = Consumer({"bootstrap.servers": addresses, "group.id": name})
    places = consumer.committed([TopicPartition(source, it) for it in range(PARTITIONS)], 30)
    consumer.close()
    return count - sum(max(it.offset, 0) for it in places)


def drive(addresses, seconds, name, command):
    source, left, right = names(name)
    admin = AdminClient({"bootstrap.servers": addresses})
    made = admin.create_topics([NewTopic(it, PARTITIONS, 1) for it in (source, left, right)])
    for each in made.values():
        each.result()
    draw = random.Random(7)
    reader = Reader(addresses, [left, right])
    reader.follow()
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
            # Longer than a session: the group is whole now and then.
            next_kill += 9 + draw.random() * 6
        time.sleep(0.1)
    if producer.flush(60) > 0:
        raise SystemExit("the input could not be written")
    deadline = time.time() + PATIENCE
    while time.time() < deadline:
        wrong, missing, torn, _ = judge(reader.seen, name, count)
        if missing == 0 and not torn:
            break
        time.sleep(0.5)
    workers.check()
    workers.stop()
    # What comes late would be too much.
    time.sleep(2)
    reader.finish()
    wrong, missing, torn, transactions = judge(reader.seen, name, count)
    again = Reader(addresses, [left, right])
    again.read_all()
    changed = [f"{topic}-{part}" for (topic, part), seen in again.seen.items() if seen != reader.seen[topic, part]]
    behind = uncommitted(addresses, name, count)
    verdict = {
        "records": count,
        "transactions": transactions,
        "kills": workers.kills,
        "missing": missing,
        "wrong": wrong[:10],
        "torn": torn[:10],
        "changed": changed,
        "uncommitted": behind,
        "good": not (wrong or missing or torn or changed or behind),
    }
    print(json.dumps(verdict))
    sys.exit(0 if verdict["good"] else 1)


if sys.argv[1] == "work":
    work(*sys.argv[2:5])
else:
    own = [sys.executable, __file__, "work"]
    drive(sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5:] or own)
