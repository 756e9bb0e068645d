"""Writes records in one codec and reads them back with two clients.

usage: codecs.py produce ADDRESS TOPIC CODEC COUNT
       codecs.py consume CLIENT ADDRESS TOPIC COUNT

Prints a JSON line per record, in the same form for every client and for the producer.
"""

import base64
import json
import sys
import time


def text(value):
    return None if value is None else base64.b64encode(value).decode()


def line(partition, offset, timestamp, key, value, headers):
    return json.dumps(
        {
            "partition": partition,
            "offset": offset,
            "timestamp": timestamp,
            "key": text(key),
            "value": text(value),
            "headers": [[name, text(content)] for name, content in headers or []],
        },
        sort_keys=True,
    )


def produce(address, topic, codec, count):
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": address,
            "compression.type": codec,
            "linger.ms": 20,
            "batch.num.messages": 50,
            "enable.idempotence": True,
        }
    )
    sent = []

    def delivered(key, value, headers, timestamp):
        def report(error, message):
            assert error is None, error
            sent.append(
                (message.partition(), message.offset(), timestamp, key, value, headers)
            )

        return report

    started = 1_700_000_000_000
    for number in range(count):
        key = None if number % 7 == 0 else f"key-{number % 13}".encode()
        value = None if number % 11 == 10 else (f"value {number} " + "x" * (number % 300)).encode()
        headers = [("trace", f"{number}".encode()), ("trace", b"again")] if number % 3 == 0 else []
        timestamp = started + number * 7 % 1000
        producer.produce(
            topic,
            key=key,
            value=value,
            headers=headers,
            timestamp=timestamp,
            partition=number % 3,
            on_delivery=delivered(key, value, headers, timestamp),
        )
        producer.poll(0)
    assert producer.flush(60) == 0
    for record in sorted(sent, key=lambda record: record[:2]):
        print(line(*record))


def consume_confluent(address, topic, count):
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": address, "group.id": "reader"})
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(3)])
    records = []
    deadline = time.monotonic() + 60
    while len(records) < count and time.monotonic() < deadline:
        message = consumer.poll(1.0)
        if message is None:
            continue
        assert message.error() is None, message.error()
        records.append(
            (
                message.partition(),
                message.offset(),
                message.timestamp()[1],
                message.key(),
                message.value(),
                message.headers(),
            )
        )
    consumer.close()
    return records


def consume_kafka_python(address, topic, count):
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, p) for p in range(3)])
    records = []
    deadline = time.monotonic() + 60
    while len(records) < count and time.monotonic() < deadline:
        for messages in consumer.poll(timeout_ms=1000).values():
            records += [
                (m.partition, m.offset, m.timestamp, m.key, m.value, m.headers) for m in messages
            ]
    consumer.close()
    return records


def in_order(records):
    last = {}
    for record in records:
        assert record[1] > last.get(record[0], -1), "offsets of a partition must rise"
        last[record[0]] = record[1]
    return sorted(records, key=lambda record: record[:2])


if __name__ == "__main__":
    if sys.argv[1] == "produce":
        produce(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    else:
        read = {"confluent": consume_confluent, "kafka-python": consume_kafka_python}[sys.argv[2]]
        for record in in_order(read(sys.argv[3], sys.argv[4], int(sys.argv[5]))):
            print(line(*record))
