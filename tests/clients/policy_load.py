"""Keeps topics of every cleanup policy busy, and judges in the end what is left of them.

usage: policy_load.py ADDRESS KEYS

Until SIGTERM: writes numbered values for KEYS keys into "compacted" and "both", tombstones among them,
values without meaning into "short" and "sized", and makes and deletes topics. Then flushes, reads
everything back and prints, a line each:
  acked TOPIC COUNT              records that were acknowledged
  left TOPIC COUNT BYTES         records that are still there
  wrong TOPIC WHAT               what may not be
"""

import signal
import sys
import time
from collections import Counter

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

address, keys = sys.argv[1], int(sys.argv[2])
PARTITIONS = 2
TOPICS = {
    "compacted": {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "delete.retention.ms": "5000"},
    "both": {"cleanup.policy": "compact,delete", "min.cleanable.dirty.ratio": "0.3", "retention.ms": "30000"},
    "short": {"cleanup.policy": "delete", "retention.ms": "20000"},
    "sized": {"cleanup.policy": "delete", "retention.bytes": "4000000"},
}
running = True


def stop(_signal, _frame):
    global running
    running = False


signal.signal(signal.SIGTERM, stop)
common = {
    "bootstrap.servers": address,
    "reconnect.backoff.max.ms": 500,
    "socket.timeout.ms": 20_000,
}
admin = AdminClient(common)


def create(name, config, partitions=PARTITIONS):
    for _ in range(100):
        try:
            admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result()
            return
        except Exception as error:  # noqa: BLE001
            if "already exists" in str(error):
                return
            time.sleep(0.5)
    sys.exit(f"topic {name} cannot be made")


for topic, config in TOPICS.items():
    create(topic, config)
producer = Producer(
    {
        **common,
        "enable.idempotence": True,
        "linger.ms": 20,
        "message.timeout.ms": 300_000,
        "retry.backoff.ms": 100,
        "queue.buffering.max.messages": 20_000,
    }
)
acked = Counter()
last = {"compacted": {}, "both": {}}  # by topic and key: the newest value that was acknowledged
failed = []


def report(topic, key, value):
    def delivered(error, _message):
        if error is not None:
            failed.append(f"{topic} {error}")
            return
        acked[topic] += 1
        if key is not None:
            last[topic][key] = value

    return delivered


def send(topic, value, key=None, partition=0):
    done = report(topic, key, value)
    while True:
        try:
            producer.produce(topic, value=value, key=key, partition=partition, on_delivery=done)
            return
        except BufferError:
            producer.poll(0.2)


number = 0
churned = 0
begun = time.time()
while running:
    key = f"key-{number * 7919 % keys}"
    partition = number * 7919 % keys % PARTITIONS
    value = None if number % 41 == 0 else f"{number:09}" + "v" * (number % 300)
    send("compacted", value, key, partition)
    send("both", value, key, partition)
    send("short", f"{number:09}" + "s" * 500, partition=number % PARTITIONS)
    send("sized", f"{number:09}" + "b" * 900, partition=number % PARTITIONS)
    number += 1
    producer.poll(0)
    if number % 8 == 0:
        time.sleep(0.02)
    if time.time() - begun > churned * 7:
        name = f"passing-{churned}"
        create(name, {}, 3)
        for piece in range(40):
            send(name, f"{piece:09}" + "p" * 4000, partition=piece % 3)
        if churned > 1:
            try:
                admin.delete_topics([f"passing-{churned - 2}"], operation_timeout=20)[
                    f"passing-{churned - 2}"
                ].result()
            except Exception:  # noqa: BLE001
                pass  # the next one is tried; what is left over counts as data
        if churned % 3 == 1:
            # A policy that changes while it is at work.
            resource = ConfigResource("topic", "short", set_config={
                "cleanup.policy": "delete", "retention.ms": str(10_000 + churned % 2 * 10_000)})
            try:
                admin.alter_configs([resource])[resource].result()
            except Exception:  # noqa: BLE001
                pass
        churned += 1
left_over = producer.flush(300)
if left_over:
    failed.append(f"{left_over} records without an answer")
for what in failed[:20]:
    print(f"wrong any {what}")
for topic in TOPICS:
    print(f"acked {topic} {acked[topic]}")
consumer = Consumer({**common, "group.id": "judge", "check.crcs": True, "auto.offset.reset": "earliest"})
for topic in TOPICS:
    found, size, newest = 0, 0, {}
    for partition in range(PARTITIONS):
        place = TopicPartition(topic, partition)
        low, high = consumer.get_watermark_offsets(place, timeout=60)
        consumer.assign([TopicPartition(topic, partition, low)])
        previous, deadline = low - 1, time.time() + 120
        while consumer.position([place])[0].offset < high and time.time() < deadline:
            message = consumer.poll(1.0)
            if message is None:
                # While it is read, retention goes on.
                low, _ = consumer.get_watermark_offsets(place, timeout=60)
                if low >= high:
                    break
                continue
            if message.error():
                if not message.error().retriable() and message.error().code() >= 0:
                    print(f"wrong {topic} {message.error()}")
                    break
                continue
            if message.offset() <= previous:
                print(f"wrong {topic} offset {message.offset()} after {previous}")
            if topic in ("short", "sized") and message.offset() != previous + 1:
                low, _ = consumer.get_watermark_offsets(place, timeout=60)
                if low <= previous + 1:
                    print(f"wrong {topic} offset {message.offset()} is missing some after {previous}")
            previous = message.offset()
            found += 1
            size += len(message.value() or b"")
            if message.key() is not None:
                newest[message.key().decode()] = message.value()
        if time.time() >= deadline:
            print(f"wrong {topic} partition {partition} cannot be read to {high}")
    if topic == "compacted":
        for key, value in last[topic].items():
            got = newest.get(key)
            if value is None and got is None:
                continue  # a tombstone, there or compacted away
            if got is None or value is None or got.decode() != value:
                print(f"wrong {topic} {key} is {got}, not {value}")
    print(f"left {topic} {found} {size}")
consumer.close()
