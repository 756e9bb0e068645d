"""Prints every record of a topic as "PARTITION OFFSET VALUE", without padding "~", then ends.

usage: dump.py ADDRESS TOPIC PARTITIONS
"""

import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

address, topic, partitions = sys.argv[1], sys.argv[2], int(sys.argv[3])
consumer = Consumer({"bootstrap.servers": address, "group.id": "dump", "check.crcs": True})
ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), 30)[1] for p in range(partitions)}
consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in ends])
left = {p for p, end in ends.items() if end > 0}
while left:
    message = consumer.poll(30.0)
    assert message is not None, f"nothing came for 30 s, partitions {left} are not read out"
    assert message.error() is None, message.error()
    print(message.partition(), message.offset(), message.value()[:80].decode().rstrip("~"))
    if message.offset() + 1 >= ends[message.partition()]:
        left.discard(message.partition())
consumer.close()
