"""The report of kafka-python."""

import time

from common import ADDRESS, feature, name, run, same, unsupported, until
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.structs import OffsetAndMetadata

admin = KafkaAdminClient(bootstrap_servers=ADDRESS)


def topic(what, partitions=2, settings=None):
    made = name(what)
    admin.create_topics([NewTopic(made, partitions, 1, topic_configs=settings or {})])
    return made


def send(where, values, partition=0, **settings):
    producer = KafkaProducer(bootstrap_servers=ADDRESS, **settings)
    sent = [producer.send(where, value.encode(), partition=partition) for value in values]
    for future in sent:
        future.get(20)
    producer.close()


def consumer(group=None, **settings):
    return KafkaConsumer(
        bootstrap_servers=ADDRESS,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **settings,
    )


def polled(it):
    batches = it.poll(timeout_ms=200).values()
    return [record.value.decode() for batch in batches for record in batch]


def values(it, count, patience=30):
    found, deadline = [], time.time() + patience
    while len(found) < count and time.time() < deadline:
        found += polled(it)
    return found


def read(where, count, **settings):
    it = consumer(**settings)
    it.assign([TopicPartition(where, 0)])
    it.seek_to_beginning()
    found = values(it, count)
    it.close()
    return found


@feature("produce and consume")
def _():
    where = topic("plain")
    producer = KafkaProducer(bootstrap_servers=ADDRESS)
    sent = producer.send(where, b"v", key=b"k", headers=[("h", b"x")], partition=1, timestamp_ms=1234567890123)
    same(sent.get(20).offset, 0)
    producer.close()
    it = consumer()
    it.assign([TopicPartition(where, 1)])
    it.seek_to_beginning()
    got = next(iter(it))
    same((got.key, got.value, list(got.headers), got.timestamp), (b"k", b"v", [("h", b"x")], 1234567890123))
    it.close()


@feature("compression codecs")
def _():
    where = topic("codecs")
    wanted = []
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        sent = [f"{codec}-{number}" * 20 for number in range(20)]
        send(where, sent, compression_type=codec, linger_ms=50)
        wanted += sent
    same(read(where, len(wanted)), wanted)


@feature("idempotent producer")
def _():
    where = topic("idempotent")
    sent = [str(number) for number in range(200)]
    send(where, sent, enable_idempotence=True)
    same(read(where, 200), sent)


@feature("offsets by time")
def _():
    where = topic("times")
    producer = KafkaProducer(bootstrap_servers=ADDRESS)
    for number in range(3):
        producer.send(where, b"v", partition=0, timestamp_ms=1_000_000_000_000 + number * 1000).get(20)
    producer.close()
    place = TopicPartition(where, 0)
    it = consumer()
    same(it.offsets_for_times({place: 1_000_000_000_500})[place].offset, 1)
    same((it.beginning_offsets([place])[place], it.end_offsets([place])[place]), (0, 3))
    it.close()


@feature("consumer group")
def _():
    where, id = topic("group", 4), name("group")
    for partition in range(4):
        send(where, [f"{partition}-{number}" for number in range(5)], partition)
    settings = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 300}
    first, second = consumer(id, **settings), consumer(id, **settings)
    first.subscribe([where])
    second.subscribe([where])
    found = []

    def shared():
        found.extend(polled(first) + polled(second))
        places = [[it.position(place) for place in it.assignment()] for it in (first, second)]
        return places == [[5, 5], [5, 5]]

    until("two members to share, and all records", lambda: shared() and len(set(found)) == 20)
    first.commit()
    second.commit()
    second.close()
    until("one to have all", lambda: polled(first) == [] and len(first.assignment()) == 4)
    first.close()
    send(where, ["new"], 3)
    third = consumer(id)
    third.subscribe([where])
    same(values(third, 1), ["new"])
    third.close()


unsupported("cooperative rebalancing", "tried with the other clients")
unsupported("consumer group, KIP-848", "the client speaks the classic protocol")


@feature("static member")
def _():
    where, id = topic("static"), name("static")
    send(where, ["a"])
    it = consumer(id, group_instance_id="one", session_timeout_ms=10000)
    it.subscribe([where])
    same(values(it, 1), ["a"])
    it.commit()
    it.close()
    send(where, ["b"])
    it = consumer(id, group_instance_id="one", session_timeout_ms=10000)
    it.subscribe([where])
    same(values(it, 1), ["b"])
    it.close()


@feature("subscription by pattern")
def _():
    where = topic("pattern")
    send(where, ["a"])
    it = consumer(name("pattern"))
    it.subscribe(pattern=f"^report-pat.*{where[-8:]}")
    same(values(it, 1), ["a"])
    it.close()


@feature("transactions")
def _():
    source, target, id = topic("source"), topic("target"), name("mover")
    producer = KafkaProducer(bootstrap_servers=ADDRESS, transactional_id=name("transaction"))
    producer.init_transactions()
    for end, value in (("abort", b"x"), ("commit", b"y")):
        producer.begin_transaction()
        producer.send(target, value, partition=0)
        offsets = {TopicPartition(source, 0): OffsetAndMetadata(7, "", -1)}
        producer.send_offsets_to_transaction(offsets, id)
        getattr(producer, f"{end}_transaction")()
    producer.close()
    same(read(target, 1, isolation_level="read_committed"), ["y"])
    it = consumer(id)
    same(it.committed(TopicPartition(source, 0)), 7)
    it.close()


unsupported("share group", "the client has no share consumer")


@feature("create, describe, delete topics")
def _():
    where = topic("topics", 3, {"retention.ms": "1000000"})
    described = admin.describe_topics([where])
    same(len(described[0]["partitions"]), 3)
    admin.delete_topics([where])
    until("it to be gone", lambda: where not in admin.list_topics())


@feature("add partitions")
def _():
    where = topic("grow", 1)
    admin.create_partitions({where: NewPartitions(4)})
    until("four", lambda: len(admin.describe_topics([where])[0]["partitions"]) == 4)


@feature("configs")
def _():
    where = topic("configs")
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, where, {"retention.ms": "5000"})])
    found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, where)])
    assert "5000" in str(found), str(found)[:200]


@feature("list, describe, delete groups")
def _():
    where, id = topic("administered"), name("administered")
    send(where, ["a"])
    it = consumer(id)
    it.subscribe([where])
    same(values(it, 1), ["a"])
    it.commit()
    described = admin.describe_groups([id])
    assert "Stable" in str(described), str(described)[:200]
    assert id in str(admin.list_groups())
    it.close()
    offsets = admin.list_group_offsets([id])
    assert where in str(offsets), str(offsets)[:200]
    admin.delete_groups([id])
    assert id not in str(admin.list_groups())


@feature("delete records")
def _():
    where = topic("records")
    send(where, ["a", "b", "c"])
    admin.delete_records({TopicPartition(where, 0): 2})
    same(read(where, 1), ["c"])


unsupported("delete group offsets", "tried with the other clients")


@feature("describe cluster")
def _():
    assert admin.describe_cluster()["brokers"]


@feature("describe log dirs")
def _():
    where = topic("dirs")
    assert where in str(admin.describe_log_dirs())


for rest in ("elect leaders", "list reassignments", "client quotas", "describe producers and transactions"):
    unsupported(rest, "tried with the other clients")

run()
