"""Transactions as a careful program uses them (confluent-kafka).

usage: transactions.py ADDRESS

Prints one line of JSON with what was seen: committed and aborted transactions over two partitions, a
producer that is fenced by its successor, one whose time runs out, and a program that consumes,
transforms and produces, and dies once in the middle of a transaction.
"""

import json
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

ADDRESS = sys.argv[1]


def producer(name, **more):
    made = Producer({"bootstrap.servers": ADDRESS, "transactional.id": name, **more})
    made.init_transactions(30)
    return made


def everything(topic, isolation):
    """Values of all partitions up to their ends, sorted."""
    consumer = Consumer(
        {
            "bootstrap.servers": ADDRESS,
            "group.id": "reader",
            "isolation.level": isolation,
            "enable.partition.eof": True,
        }
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, index, 0) for index in partitions])
    values, ended, deadline = [], set(), time.monotonic() + 30
    while len(ended) < len(partitions) and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            ended.add(message.partition())
        else:
            values.append(message.value().decode())
    consumer.close()
    return sorted(values)


def send(sender, topic, values):
    for number, value in enumerate(values):
        sender.produce(topic, value.encode(), partition=number % 2)
    sender.flush(30)


def both():
    sender = producer("both")
    for number in range(3):
        sender.begin_transaction()
        send(sender, "both", [f"{number}-{part}" for part in range(4)])
        seen_before = everything("both", "read_committed")
        if number == 1:
            sender.abort_transaction(30)
        else:
            sender.commit_transaction(30)
        if number == 0:
            hidden = seen_before == []
    return {
        "hidden": hidden,
        "committed": everything("both", "read_committed"),
        "uncommitted": everything("both", "read_uncommitted"),
    }


def fenced():
    old = producer("fenced")
    old.begin_transaction()
    send(old, "fenced", ["old-0", "old-1"])
    new = producer("fenced")
    new.begin_transaction()
    send(new, "fenced", ["new-0", "new-1"])
    try:
        old.commit_transaction(30)
        code = None
    except KafkaException as error:
        code = error.args[0].name()
    new.commit_transaction(30)
    return {"code": code, "committed": everything("fenced", "read_committed")}


def timed_out():
    sender = producer("slow", **{"transaction.timeout.ms": 8000})
    sender.begin_transaction()
    send(sender, "slow", ["slow-0", "slow-1"])
    # Others may go on once it was aborted.
    other = Producer({"bootstrap.servers": ADDRESS})
    send(other, "slow", ["other-0", "other-1"])
    before = everything("slow", "read_committed")
    time.sleep(12)
    after = everything("slow", "read_committed")
    try:
        sender.commit_transaction(30)
        is_refused = False
    except KafkaException:
        is_refused = True
    return {"before": before, "after": after, "refused": is_refused}


def transform(fails):
    """Consumes, transforms and produces in transactions of ten; dies once in the middle of the third."""
    consumer = Consumer(
        {
            "bootstrap.servers": ADDRESS,
            "group.id": "movers",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe(["source"])
    mover = producer("mover")
    done, silent = 0, 0
    while silent < 8:
        messages = consumer.consume(10, 1)
        silent = 0 if messages else silent + 1
        if not messages:
            continue
        mover.begin_transaction()
        for message in messages:
            mover.produce("target", message.value() + b"!", partition=message.partition())
        mover.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 30
        )
        done += 1
        if fails and done == 3:
            mover.flush(30)
            consumer.close()
            return
        mover.commit_transaction(30)
    consumer.close()


def moved():
    source = Producer({"bootstrap.servers": ADDRESS})
    send(source, "source", [f"r{number:03}" for number in range(100)])
    transform(fails=True)
    transform(fails=False)
    return everything("target", "read_committed")


def main():
    admin = AdminClient({"bootstrap.servers": ADDRESS})
    topics = ["both", "fenced", "slow", "source", "target"]
    for made in admin.create_topics([NewTopic(topic, 2, 1) for topic in topics]).values():
        made.result()
    print(
        json.dumps(
            {"both": both(), "fenced": fenced(), "timed_out": timed_out(), "moved": moved()}
        )
    )


main()
