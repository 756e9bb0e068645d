"""What a topic's cleanup policy does, as a client sees it: the same program for any Kafka.

usage: policies.py ADDRESS [SCENARIO...]

Each scenario makes a topic of its own and waits, within limits, for what Kafka's documentation says
will happen. Prints one JSON object with what was seen. Intervals are short on the server's side; here
`segment.ms` is, so that a server with segments closes them: a record now and then makes it look.
"""

import json
import logging
import sys
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
)

logging.basicConfig(level=logging.WARNING)

PATIENCE = 60.0
HOUR = 3_600_000
ROLL = {"segment.ms": "400", "file.delete.delay.ms": "0"}
COMPACT = ROLL | {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01"}


class Topic:
    """A topic of one partition."""

    def __init__(self, address, name, configs):
        self.name = name
        self.at = TopicPartition(name, 0)
        self.admin = AdminClient({"bootstrap.servers": address})
        new = NewTopic(name, num_partitions=1, replication_factor=1, config=configs)
        self.admin.create_topics([new])[name].result(30)
        self.producer = Producer({"bootstrap.servers": address, "linger.ms": 5, "acks": "all"})
        reader = {"bootstrap.servers": address, "group.id": name, "enable.auto.commit": False}
        reader |= {"auto.offset.reset": "error", "enable.partition.eof": True}
        self.consumer = Consumer(reader)

    def send(self, records):
        """Sends (key, value, timestamp) and waits; the offsets, or the error of the first."""
        results = []
        for key, value, timestamp in records:
            done = lambda error, message: results.append(error or message.offset())  # noqa: E731
            extra = {} if timestamp is None else {"timestamp": timestamp}
            self.producer.produce(self.name, value, key, on_delivery=done, **extra)
        left = self.producer.flush(60)
        assert left == 0, f"{left} records were not answered"
        return results

    def bounds(self):
        return self.consumer.get_watermark_offsets(self.at, timeout=30, cached=False)

    def read(self):
        """Everything that is there: (offset, key, value)."""
        self.consumer.assign([TopicPartition(self.name, 0, OFFSET_BEGINNING)])
        seen = []
        while True:
            message = self.consumer.poll(30)
            assert message is not None, "no answer to a fetch"
            if message.error():
                break
            text = lambda data: None if data is None else data.decode(errors="replace")  # noqa: E731
            seen.append((message.offset(), text(message.key()), text(message.value())))
        self.consumer.unassign()
        return seen

    def alter(self, **configs):
        entries = [
            ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for name, value in configs.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, self.name, incremental_configs=entries)
        for future in self.admin.incremental_alter_configs([resource]).values():
            future.result(30)

    def until(self, what, holds, nudge=None):
        """Waits; `nudge` makes a record that is sent twice a second meanwhile. Seconds it took."""
        begun = time.monotonic()
        while True:
            value = holds()
            if value:
                return round(time.monotonic() - begun, 1)
            assert time.monotonic() - begun < PATIENCE, f"{self.name}: gave up waiting for {what}"
            if nudge:
                self.send([nudge()])
            time.sleep(0.5)


def now():
    return int(time.time() * 1000)


def nudge():
    return (b"nudge", b"", None)


def keyless_nudge():
    return (None, b"nudge", None)


def old_nudge():
    """Apache Kafka cleans several segments into one, which is as young as its youngest record."""
    return (b"nudge", b"", now() - HOUR)


def retention_by_time(address):
    topic = Topic(address, "retention-by-time", ROLL | {"retention.ms": "4000"})
    topic.send([(None, b"old", now() - HOUR)] * 10)
    time.sleep(0.6)
    topic.send([(None, b"young", now() + HOUR // 2)])
    topic.until("the old records to go", lambda: topic.bounds()[0] == 10, keyless_nudge)
    # A time in the future keeps a record, and what lies behind it, for longer.
    time.sleep(6)
    low, _ = topic.bounds()
    first = topic.read()[0]
    return {"low": low, "first": [first[0], first[2]]}


def retention_takes_the_newest_too(address):
    topic = Topic(address, "retention-of-all", ROLL | {"retention.ms": "3000"})
    topic.send([(None, b"x", None)] * 7)
    topic.until("all records to go", lambda: topic.bounds() == (7, 7))
    offset = topic.send([(None, b"y", None)])[0]
    return {"next": offset, "read": [record[0] for record in topic.read()]}


def retention_by_size(address):
    mib = 1 << 20
    configs = {"retention.bytes": str(mib), "segment.bytes": str(mib), "file.delete.delay.ms": "0"}
    topic = Topic(address, "retention-by-size", configs | {"retention.ms": "-1"})
    for _ in range(24):
        topic.send([(None, bytes(1024), None)] * 256)
    count = 24 * 256
    # What is left is at least what was asked for, and at most a segment more than that.
    topic.until("old records to go", lambda: count - topic.bounds()[0] < 2300)
    time.sleep(2)
    low, high = topic.bounds()
    return {"high": high, "enough": high - low >= 1000, "first": topic.read()[0][0] == low}


def delete_records(address):
    topic = Topic(address, "delete-records", {})
    topic.send([(None, str(number).encode(), None) for number in range(10)])

    def delete(offset):
        wanted = TopicPartition(topic.name, 0, offset)
        future = next(iter(topic.admin.delete_records([wanted]).values()))
        try:
            return future.result(30).low_watermark
        except KafkaException as error:
            return error.args[0].name()

    seen = {"to 5": delete(5), "first": topic.read()[0][0], "back to 2": delete(2)}
    seen |= {"beyond": delete(11), "all": delete(-1), "bounds": topic.bounds()}
    return seen | {"next": topic.send([(None, b"more", None)])[0]}


def compaction(address):
    topic = Topic(address, "compaction", COMPACT | {"delete.retention.ms": "3000"})
    for round in range(3):
        topic.send([(f"key-{key}".encode(), f"{round}".encode(), None) for key in range(5)])
    topic.send([(b"key-0", None, None)])
    keys = lambda: [record for record in topic.read() if record[1] != "nudge"]  # noqa: E731
    kept = [(10 + key, f"key-{key}", "2") for key in range(1, 5)]
    with_tombstone = kept + [(15, "key-0", None)]
    topic.until("older values to go", lambda: len(keys()) <= 5, nudge)
    first = keys()
    topic.until("the tombstone to go", lambda: len(keys()) <= 4, nudge)
    seen = {"tombstone stayed first": first == with_tombstone, "left": keys(), "low": topic.bounds()[0]}
    # A fetch from an offset that is gone gives the next that is there.
    topic.consumer.assign([TopicPartition(topic.name, 0, 3)])
    message = topic.consumer.poll(30)
    topic.consumer.unassign()
    return seen | {"after 3": message.offset()}


def no_key(address):
    topic = Topic(address, "no-key", COMPACT)
    (error,) = topic.send([(None, b"x", None)])
    return {"error": error.name(), "read": topic.read()}


def lag(address):
    topic = Topic(address, "compaction-lag", COMPACT | {"min.compaction.lag.ms": str(HOUR)})
    topic.send([(b"key", str(number).encode(), None) for number in range(5)])
    for _ in range(8):
        topic.send([nudge()])
        time.sleep(0.5)
    before = sum(record[1] == "key" for record in topic.read())
    topic.alter(**{"min_compaction_lag_ms": "0"})
    left = lambda: [record for record in topic.read() if record[1] == "key"]  # noqa: E731
    topic.until("compaction", lambda: len(left()) == 1, nudge)
    return {"before": before, "left": left()}


def both(address):
    policy = {"cleanup.policy": "compact,delete", "retention.ms": "-1"}
    topic = Topic(address, "both-policies", COMPACT | policy)
    topic.send([(b"key", str(number).encode(), now() - HOUR) for number in range(5)])
    left = lambda: [record for record in topic.read() if record[1] == "key"]  # noqa: E731
    topic.until("compaction", lambda: len(left()) == 1, old_nudge)
    compacted = left()
    topic.alter(**{"retention_ms": "60000"})
    topic.until("retention", lambda: not left(), old_nudge)
    return {"compacted": compacted}


def changed_policies(address):
    topic = Topic(address, "changed-policies", ROLL | {"retention.ms": "-1"})
    topic.send([(b"key", str(number).encode(), now() - HOUR) for number in range(5)])
    time.sleep(2)
    before = topic.bounds()
    topic.alter(cleanup_policy="compact", **{"min_cleanable_dirty_ratio": "0.01"})
    left = lambda: [record for record in topic.read() if record[1] == "key"]  # noqa: E731
    topic.until("compaction", lambda: len(left()) == 1, old_nudge)
    compacted = left()
    topic.alter(cleanup_policy="delete", **{"retention_ms": "60000"})
    topic.until("retention", lambda: not left(), nudge)
    topic.alter(**{"retention_ms": "1000"})
    took = topic.until("the rest to go", lambda: topic.bounds()[0] == topic.bounds()[1])
    return {"before": before, "compacted": compacted, "soon": took < 20}


SCENARIOS = [
    retention_by_time,
    retention_takes_the_newest_too,
    retention_by_size,
    delete_records,
    compaction,
    no_key,
    lag,
    both,
    changed_policies,
]


def main():
    address, *names = sys.argv[1:]
    report = {}

    def run(scenario):
        try:
            report[scenario.__name__] = scenario(address)
        except Exception as error:  # noqa: BLE001: it belongs into the report
            report[scenario.__name__] = f"{type(error).__name__}: {error}"

    chosen = [one for one in SCENARIOS if not names or one.__name__ in names]
    threads = [threading.Thread(target=run, args=[one]) for one in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(report, sort_keys=True))


main()
