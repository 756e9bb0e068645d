"""The report of confluent-kafka (librdkafka)."""

import time

from common import ADDRESS, feature, name, run, same, unsupported, until
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

SERVER = {"bootstrap.servers": ADDRESS}
admin = AdminClient(SERVER)


def done(futures):
    return {key: future.result(20) for key, future in futures.items()}


def topic(what, partitions=2, **settings):
    made = name(what)
    done(admin.create_topics([NewTopic(made, partitions, 1, config=settings)]))
    return made


def send(where, values, partition=0, **settings):
    producer = Producer({**SERVER, **settings})
    errors = []
    for value in values:
        producer.produce(where, value, partition=partition, on_delivery=lambda e, _: e and errors.append(e))
    same(producer.flush(20), 0)
    same(errors, [])


def consumer(group, **settings):
    return Consumer(
        {
            **SERVER,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **settings,
        }
    )


def values(it, count, patience=30):
    found = []
    deadline = time.time() + patience
    while len(found) < count and time.time() < deadline:
        found += [m.value().decode() for m in it.consume(count - len(found), 0.2) if not m.error()]
    return found


def read(where, count, partition=0, **settings):
    it = consumer(name("reader"), **settings)
    it.assign([TopicPartition(where, partition, 0)])
    found = values(it, count)
    it.close()
    return found


@feature("produce and consume")
def _():
    where = topic("plain")
    producer = Producer(SERVER)
    producer.produce(where, "v", "k", partition=1, timestamp=1234567890123, headers=[("h", b"x")])
    same(producer.flush(20), 0)
    it = consumer(name("plain"))
    it.assign([TopicPartition(where, 1, 0)])
    got = it.poll(20)
    same((got.key(), got.value(), got.headers()), (b"k", b"v", [("h", b"x")]))
    same(got.timestamp()[1], 1234567890123)
    it.close()


@feature("compression codecs")
def _():
    where = topic("codecs")
    wanted = []
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        sent = [f"{codec}-{number}" * 20 for number in range(20)]
        send(where, sent, **{"compression.type": codec, "linger.ms": 50})
        wanted += sent
    same(read(where, len(wanted)), wanted)


@feature("idempotent producer")
def _():
    where = topic("idempotent")
    sent = [str(number) for number in range(500)]
    send(where, sent, **{"enable.idempotence": True})
    same(read(where, 500), sent)


@feature("offsets by time")
def _():
    where = topic("times")
    producer = Producer(SERVER)
    for number in range(3):
        producer.produce(where, str(number), partition=0, timestamp=1_000_000_000_000 + number * 1000)
    same(producer.flush(20), 0)
    place = TopicPartition(where, 0)
    for spec, offset in [
        (OffsetSpec.earliest(), 0),
        (OffsetSpec.latest(), 3),
        (OffsetSpec.for_timestamp(1_000_000_000_500), 1),
        (OffsetSpec.max_timestamp(), 2),
    ]:
        found = admin.list_offsets({place: spec}, isolation_level=IsolationLevel.READ_COMMITTED)
        same(found[place].result(20).offset, offset)


def group(**settings):
    """Two members share, one leaves, the other goes on from the commit."""
    where, id = topic("group", 4), name("group" + settings.get("group.protocol", ""))
    for partition in range(4):
        send(where, [f"{partition}-{number}" for number in range(5)], partition)
    first, second = consumer(id, **settings), consumer(id, **settings)
    first.subscribe([where])
    second.subscribe([where])
    found = []

    def shared():
        for it in (first, second):
            for message in it.consume(20, 0.1):
                if not message.error():
                    found.append(message.value().decode())
        places = [it.position(it.assignment()) for it in (first, second)]
        return [[place.offset for place in of] for of in places] == [[5, 5], [5, 5]]

    until("two members to share, and all records", lambda: shared() and len(set(found)) == 20)
    for it in (first, second):
        it.commit(offsets=it.position(it.assignment()), asynchronous=False)
    second.close()
    until("one to have all", lambda: first.poll(0.1) is None and len(first.assignment()) == 4)
    first.close()
    send(where, ["new"], 3)
    third = consumer(id, **settings)
    third.subscribe([where])
    same(values(third, 1), ["new"])
    third.close()
    return id


@feature("consumer group")
def _():
    group(**{"session.timeout.ms": 6000, "heartbeat.interval.ms": 300})


@feature("cooperative rebalancing")
def _():
    group(
        **{
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 300,
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )


@feature("consumer group, KIP-848")
def _():
    group(**{"group.protocol": "consumer"})


@feature("static member")
def _():
    where, id = topic("static"), name("static")
    send(where, ["a"])
    settings = {"group.instance.id": "one", "session.timeout.ms": 10000}
    first = consumer(id, **settings)
    first.subscribe([where])
    same(values(first, 1), ["a"])
    before = admin.describe_consumer_groups([id])[id].result(20).members
    same([member.group_instance_id for member in before], ["one"])
    first.commit(asynchronous=False)
    first.close()
    send(where, ["b"])
    again = consumer(id, **settings)
    again.subscribe([where])
    same(values(again, 1), ["b"])
    again.close()


@feature("subscription by pattern")
def _():
    where, id = topic("pattern"), name("pattern")
    send(where, ["a"])
    it = consumer(id)
    it.subscribe([f"^report-pat.*{where[-8:]}"])
    same(values(it, 1), ["a"])
    it.close()


@feature("transactions")
def _():
    source, target, id = topic("source"), topic("target"), name("mover")
    send(source, ["a", "b"])
    it = consumer(id)
    it.subscribe([source])
    same(values(it, 2), ["a", "b"])
    producer = Producer({**SERVER, "transactional.id": name("transaction")})
    producer.init_transactions(20)
    for end, value in (("abort", "x"), ("commit", "y")):
        producer.begin_transaction()
        producer.produce(target, value, partition=0)
        producer.send_offsets_to_transaction(it.position(it.assignment()), it.consumer_group_metadata(), 20)
        getattr(producer, f"{end}_transaction")(20)
    same(read(target, 1, **{"isolation.level": "read_committed"}), ["y"])
    committed = it.committed([TopicPartition(source, 0)], 20)
    same(committed[0].offset, 2)
    it.close()


unsupported("share group", "librdkafka has no share consumer in this version")


@feature("create, describe, delete topics")
def _():
    where = topic("topics", 3, **{"retention.ms": "1000000"})
    from confluent_kafka import TopicCollection

    described = admin.describe_topics(TopicCollection([where]))[where].result(20)
    same(len(described.partitions), 3)
    try:
        done(admin.create_topics([NewTopic(where, 3, 1)]))
        raise AssertionError("made twice")
    except KafkaException as error:
        same(error.args[0].name(), "TOPIC_ALREADY_EXISTS")
    done(admin.delete_topics([where]))
    until("it to be gone", lambda: where not in admin.list_topics(timeout=10).topics)


@feature("add partitions")
def _():
    where = topic("grow", 1)
    done(admin.create_partitions([NewPartitions(where, 4)]))
    until("four", lambda: len(admin.list_topics(where, 10).topics[where].partitions) == 4)


@feature("configs")
def _():
    where = topic("configs")
    entry = ConfigEntry("retention.ms", "5000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, where, incremental_configs=[entry])
    done(admin.incremental_alter_configs([resource]))
    found = admin.describe_configs([ConfigResource(ResourceType.TOPIC, where)])
    entry = list(done(found).values())[0]["retention.ms"]
    same((entry.value, entry.source), ("5000", ConfigSource.DYNAMIC_TOPIC_CONFIG.value))


@feature("list, describe, delete groups")
def _():
    where, id = topic("administered"), name("administered")
    send(where, ["a"])
    it = consumer(id)
    it.subscribe([where])
    same(values(it, 1), ["a"])
    it.commit(asynchronous=False)
    described = admin.describe_consumer_groups([id])[id].result(20)
    same((described.state.name, len(described.members)), ("STABLE", 1))
    assert id in [found.group_id for found in admin.list_consumer_groups().result(20).valid]
    it.close()
    ask = ConsumerGroupTopicPartitions(id)
    offsets = admin.list_consumer_group_offsets([ask])[id].result(20)
    same([(p.topic, p.partition, p.offset) for p in offsets.topic_partitions], [(where, 0, 1)])
    change = ConsumerGroupTopicPartitions(id, [TopicPartition(where, 0, 0)])
    admin.alter_consumer_group_offsets([change])[id].result(20)
    done(admin.delete_consumer_groups([id]))
    assert id not in [found.group_id for found in admin.list_consumer_groups().result(20).valid]


@feature("delete records")
def _():
    where = topic("records")
    send(where, ["a", "b", "c"])
    place = TopicPartition(where, 0, 2)
    same(admin.delete_records([place])[place].result(20).low_watermark, 2)
    same(read(where, 1), ["c"])


unsupported("delete group offsets", "its admin client has no such call")


@feature("describe cluster")
def _():
    cluster = admin.describe_cluster().result(20)
    assert cluster.cluster_id and cluster.nodes and cluster.controller


unsupported("describe log dirs", "its admin client has no such call")


@feature("elect leaders")
def _():
    from confluent_kafka import ElectionType

    where = topic("elect")
    place = TopicPartition(where, 0)
    found = admin.elect_leaders(ElectionType.PREFERRED, [place]).result(20)
    error = found[place]
    assert error is None or error.name() == "ELECTION_NOT_NEEDED", error


unsupported("list reassignments", "its admin client has no such call")
unsupported("client quotas", "its admin client has no such call")
unsupported("describe producers and transactions", "its admin client has no such call")

run()
