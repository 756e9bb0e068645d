"""A member of a consumer group, with kafka-python.

usage: member.py ADDRESS TOPIC GROUP

Prints "owns 0 1 2" whenever its assignment changes, "read PARTITION OFFSET" per record; commits what
it read; leaves the group on SIGTERM.
"""

import signal
import sys

from kafka import ConsumerRebalanceListener, KafkaConsumer

address, topic, group = sys.argv[1:4]
running = True


def stop(_signal, _frame):
    global running
    running = False


signal.signal(signal.SIGTERM, stop)
consumer = KafkaConsumer(
    bootstrap_servers=address,
    group_id=group,
    auto_offset_reset="earliest",
    enable_auto_commit=False,
    session_timeout_ms=6000,
    heartbeat_interval_ms=500,
)


class Listener(ConsumerRebalanceListener):
    def on_partitions_revoked(self, revoked):
        pass

    def on_partitions_assigned(self, assigned):
        print("owns", *sorted(p.partition for p in assigned), flush=True)


consumer.subscribe([topic], listener=Listener())
while running:
    for messages in consumer.poll(timeout_ms=200).values():
        for message in messages:
            print("read", message.partition, message.offset, flush=True)
        consumer.commit()
consumer.close()
