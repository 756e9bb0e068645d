"""Reads records of a topic as a group, commits, and prints the group's commits.

usage: commit.py BOOTSTRAP TOPIC GROUP COUNT
"""

import sys

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

bootstrap, topic, group, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
if count:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    for _ in range(count):
        message = consumer.poll(30)
        assert message is not None and message.error() is None, message
    consumer.commit(asynchronous=False)
    consumer.close()
admin = AdminClient({"bootstrap.servers": bootstrap})
asked = [ConsumerGroupTopicPartitions(group)]
found = admin.list_consumer_group_offsets(asked, request_timeout=30)[group].result()
for place in sorted((p.topic, p.partition, p.offset) for p in found.topic_partitions):
    print(*place)
