"""A producer as people write it first, with default settings: numbered records to every partition
for some seconds. Prints "acked N failed M".

usage: scale_load.py BOOTSTRAP TOPIC PARTITIONS SECONDS
"""

import sys
import time

from confluent_kafka import Producer

bootstrap, topic, partitions, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
producer = Producer({"bootstrap.servers": bootstrap})
counts = {"acked": 0, "failed": 0}


def delivered(error, message):
    counts["failed" if error else "acked"] += 1
    if error:
        print("failed", message.value().decode(), error, flush=True)


number = 0
end = time.time() + seconds
while time.time() < end:
    producer.produce(topic, f"python-{number}", partition=number % partitions, on_delivery=delivered)
    number += 1
    producer.poll(0.002)
producer.flush(60)
print(f"acked {counts['acked']} failed {counts['failed']}")
