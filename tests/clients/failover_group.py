"""A group member that must not notice that its coordinator dies.

usage: failover_group.py BOOTSTRAP TOPIC GROUP coordinator
       failover_group.py BOOTSTRAP TOPIC GROUP work SECONDS

The first prints the coordinator's address. The second produces numbered records, reads and commits
them as a member of the group, and says at the end whether it was assigned once and saw every record
once.
"""

import sys
import time

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

bootstrap, topic, group, what = sys.argv[1:5]

if what == "coordinator":
    admin = AdminClient({"bootstrap.servers": bootstrap})
    described = admin.describe_consumer_groups([group], request_timeout=30)[group].result()
    print(f"{described.coordinator.host}:{described.coordinator.port}")
    sys.exit(0)

assigned = []
consumer = Consumer(
    {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 1_000,
    }
)
consumer.subscribe([topic], on_assign=lambda _consumer, partitions: assigned.append(len(partitions)))
producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})
sent, seen, commits = 0, [], 0
end = time.time() + float(sys.argv[5])
while time.time() < end:
    producer.produce(topic, str(sent))
    sent += 1
    producer.poll(0.005)
    message = consumer.poll(0.005)
    if message is not None and message.error() is None:
        seen.append(int(message.value()))
        if len(seen) % 20 == 0:
            consumer.commit(message=message, asynchronous=True)
            commits += 1
producer.flush(30)
quiet = time.time() + 30
while len(seen) < sent and time.time() < quiet:
    message = consumer.poll(0.5)
    if message is not None and message.error() is None:
        seen.append(int(message.value()))
consumer.commit(asynchronous=False)
consumer.close()
print(f"sent {sent}, seen {len(seen)}, commits {commits}, assignments {assigned}")
if len(assigned) == 1:
    print("assigned once")
if sorted(seen) == list(range(sent)):
    print("no record twice, none missing")
