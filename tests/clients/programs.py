"""The programs that people begin with, written with kafka-python: a simple producer and consumer, an
idempotent producer with a dead-letter topic, a consumer that commits by hand.

usage: programs.py simple|orders ADDRESS
"""

import json
import logging
import sys
import time

from kafka import KafkaConsumer, KafkaProducer

logging.basicConfig(level=logging.WARNING)


def simple(address):
    producer = KafkaProducer(bootstrap_servers=address)
    for number in range(10):
        producer.send("user_clicks", value=f"click {number}".encode())
    producer.flush()
    producer.close()
    consumer = KafkaConsumer(
        "user_clicks",
        bootstrap_servers=address,
        auto_offset_reset="earliest",
        consumer_timeout_ms=20000,
    )
    seen = []
    for message in consumer:
        seen.append(message.value.decode())
        if len(seen) == 10:
            break
    consumer.close()
    print(json.dumps(sorted(seen)))


class OrderProducer:
    """Idempotent, compressed, with headers; what cannot be sent goes to a dead-letter topic."""

    def __init__(self, address, topic):
        self.topic = topic
        self.dead_letters = topic + ".dlq"
        self.producer = KafkaProducer(
            bootstrap_servers=address,
            acks="all",
            enable_idempotence=True,
            max_in_flight_requests_per_connection=5,
            retries=3,
            retry_backoff_ms=100,
            compression_type="snappy",
            linger_ms=10,
            batch_size=32768,
        )

    def send(self, order):
        try:
            future = self.producer.send(
                self.topic,
                key=order["id"].encode(),
                value=json.dumps(order).encode(),
                headers=[("event_type", b"order_created"), ("event_type", b"twice")],
            )
            future.get(timeout=30)
        except Exception as error:  # noqa: BLE001: everything goes to the dead letters
            letter = {"order": order["id"], "error": type(error).__name__}
            self.producer.send(self.dead_letters, value=json.dumps(letter).encode()).get(timeout=30)

    def close(self):
        self.producer.flush(timeout=30)
        self.producer.close()


def orders(address):
    producer = OrderProducer(address, "orders.events")
    for number in range(20):
        producer.send({"id": f"ORD-{number}", "amount": number * 1.5})
    # Larger than the client's own limit: it never reaches the server and must become a dead letter.
    producer.send({"id": "ORD-huge", "amount": "9" * 2_000_000})
    producer.close()

    def read(limit):
        consumer = KafkaConsumer(
            "orders.events",
            bootstrap_servers=address,
            group_id="order-processing-group",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_poll_records=7,
            session_timeout_ms=30000,
            heartbeat_interval_ms=10000,
            value_deserializer=lambda value: json.loads(value.decode()),
            key_deserializer=lambda key: key.decode() if key else None,
        )
        seen = []
        deadline = time.monotonic() + 30
        while len(seen) < limit and time.monotonic() < deadline:
            for messages in consumer.poll(timeout_ms=1000).values():
                for message in messages:
                    assert message.headers == [
                        ("event_type", b"order_created"),
                        ("event_type", b"twice"),
                    ], message.headers
                    assert message.key == message.value["id"]
                    seen.append(message.key)
            consumer.commit()
        consumer.close()
        return seen

    first = read(20)
    again = OrderProducer(address, "orders.events")
    again.send({"id": "ORD-late", "amount": 1})
    again.close()
    second = read(1)
    letters = KafkaConsumer(
        "orders.events.dlq",
        bootstrap_servers=address,
        auto_offset_reset="earliest",
        consumer_timeout_ms=20000,
    )
    letter = json.loads(next(iter(letters)).value)
    letters.close()
    print(json.dumps({"first": sorted(first), "second": second, "letter": letter}))


if __name__ == "__main__":
    {"simple": simple, "orders": orders}[sys.argv[1]](sys.argv[2])
