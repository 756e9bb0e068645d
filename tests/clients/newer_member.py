"""A member of a consumer group of the newer protocol (KIP-848), with confluent-kafka.

usage: newer_member.py ADDRESS TOPIC GROUP

Prints and does what member.py does.
"""

import signal
import sys

from confluent_kafka import Consumer

address, topic, group = sys.argv[1:4]
running = True


def stop(_signal, _frame):
    global running
    running = False


signal.signal(signal.SIGTERM, stop)
consumer = Consumer(
    {
        "bootstrap.servers": address,
        "group.id": group,
        "group.protocol": "consumer",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
)
owned = set()


def tell():
    print("owns", *sorted(owned), flush=True)


def assigned(its, partitions):
    owned.update(p.partition for p in partitions)
    its.incremental_assign(partitions)
    tell()


def revoked(its, partitions):
    owned.difference_update(p.partition for p in partitions)
    its.incremental_unassign(partitions)
    tell()


consumer.subscribe([topic], on_assign=assigned, on_revoke=revoked, on_lost=revoked)
while running:
    read = False
    for message in consumer.consume(100, timeout=0.2):
        if message.error() is None:
            print("read", message.partition(), message.offset(), flush=True)
            read = True
    if read:
        consumer.commit(asynchronous=False)
consumer.close()
