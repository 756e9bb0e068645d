"""Follows a topic from its beginning, whatever happens to the server, until SIGTERM.

usage: watch.py ADDRESS TOPIC PARTITIONS

Prints every record as "PARTITION OFFSET VALUE", without padding "~"; "error ..." when the server
takes an offset back that it had shown.
"""

import signal
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

address, topic, partitions = sys.argv[1], sys.argv[2], int(sys.argv[3])
consumer = Consumer(
    {
        "bootstrap.servers": address,
        "group.id": "watch",
        "check.crcs": True,
        "auto.offset.reset": "error",
        "reconnect.backoff.max.ms": 300,
    }
)
running = True


def stop(_signal, _frame):
    global running
    running = False


signal.signal(signal.SIGTERM, stop)
consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)])
AWAY = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}
while running:
    message = consumer.poll(0.2)
    if message is None:
        continue
    if message.error() is None:
        value = message.value()[:80].decode().rstrip("~")
        print(message.partition(), message.offset(), value, flush=True)
    elif message.error().code() not in AWAY and not message.error().retriable():
        print("error", message.error(), flush=True)
consumer.close()
