"""The report of aiokafka."""

import asyncio
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from common import ADDRESS, feature, name, run, same, unsupported

SERVER = {"bootstrap_servers": ADDRESS}


def tried(title):
    """A feature that is a coroutine; it gets an admin client."""

    def note(function):
        async def within():
            admin = AIOKafkaAdminClient(**SERVER)
            await admin.start()
            try:
                await asyncio.wait_for(function(admin), 45)
            finally:
                await admin.close()

        feature(title)(lambda: asyncio.run(within()))

    return note


async def topic(admin, what, partitions=2, settings=None):
    made = name(what)
    await admin.create_topics([NewTopic(made, partitions, 1, topic_configs=settings or {})])
    return made


async def send(where, values, partition=0, **settings):
    async with AIOKafkaProducer(**SERVER, **settings) as producer:
        for value in values:
            await producer.send(where, value.encode(), partition=partition)
        await producer.flush()


def consumer(*topics, group=None, **settings):
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, **settings}
    return AIOKafkaConsumer(*topics, **SERVER, group_id=group, **settings)


async def values(it, count, patience=30):
    found, deadline = [], time.time() + patience
    while len(found) < count and time.time() < deadline:
        for batch in (await it.getmany(timeout_ms=200)).values():
            found += [record.value.decode() for record in batch]
    return found


async def read(where, count, **settings):
    async with consumer(**settings) as it:
        it.assign([TopicPartition(where, 0)])
        await it.seek_to_beginning()
        return await values(it, count)


@tried("produce and consume")
async def _(admin):
    where = await topic(admin, "plain")
    async with AIOKafkaProducer(**SERVER) as producer:
        await producer.send_and_wait(
            where, b"v", key=b"k", partition=0, timestamp_ms=1234567890123, headers=[("h", b"x")]
        )
    async with consumer(where) as it:
        got = await it.getone()
        same((got.key, got.value, got.timestamp, got.headers), (b"k", b"v", 1234567890123, (("h", b"x"),)))


@tried("compression codecs")
async def _(admin):
    where = await topic(admin, "codecs")
    wanted = []
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        sent = [f"{codec}-{number}" * 20 for number in range(20)]
        await send(where, sent, compression_type=codec, linger_ms=50)
        wanted += sent
    same(await read(where, len(wanted)), wanted)


@tried("idempotent producer")
async def _(admin):
    where = await topic(admin, "idempotent")
    sent = [str(number) for number in range(200)]
    await send(where, sent, enable_idempotence=True)
    same(await read(where, 200), sent)


@tried("offsets by time")
async def _(admin):
    where = await topic(admin, "times")
    async with AIOKafkaProducer(**SERVER) as producer:
        for number in range(3):
            await producer.send_and_wait(where, b"v", partition=0, timestamp_ms=1_000_000_000_000 + number * 1000)
    place = TopicPartition(where, 0)
    async with consumer() as it:
        same((await it.offsets_for_times({place: 1_000_000_000_500}))[place].offset, 1)
        same((await it.end_offsets([place]))[place], 3)


@tried("consumer group")
async def _(admin):
    where, id = await topic(admin, "group", 4), name("group")
    for partition in range(4):
        await send(where, [f"{partition}-{number}" for number in range(5)], partition)
    settings = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 300, "group": id}
    first, second = consumer(where, **settings), consumer(where, **settings)
    await asyncio.gather(first.start(), second.start())
    found, deadline = [], time.time() + 30
    places = []
    while len(set(found)) < 20 or places != [[5, 5], [5, 5]]:
        assert time.time() < deadline, (len(set(found)), places)
        for it in (first, second):
            found += await values(it, 1, 0.2)
        both = (first, second)
        places = [[await it.position(place) for place in it.assignment()] for it in both]
    await first.commit()
    await second.commit()
    await second.stop()
    while len(first.assignment()) != 4:
        assert time.time() < deadline
        await values(first, 1, 0.2)
    await first.stop()
    await send(where, ["new"], 3)
    async with consumer(where, group=id) as third:
        same(await values(third, 1), ["new"])


unsupported("cooperative rebalancing", "the client has no cooperative assignor")
unsupported("consumer group, KIP-848", "the client speaks the classic protocol")


@tried("static member")
async def _(admin):
    where, id = await topic(admin, "static"), name("static")
    for value in ("a", "b"):
        await send(where, [value])
        async with consumer(where, group=id, group_instance_id="one") as it:
            same(await values(it, 1), [value])
            await it.commit()


@tried("subscription by pattern")
async def _(admin):
    where = await topic(admin, "pattern")
    await send(where, ["a"])
    async with consumer(group=name("pattern")) as it:
        it.subscribe(pattern=f"^report-pat.*{where[-8:]}")
        same(await values(it, 1), ["a"])


@tried("transactions")
async def _(admin):
    source, target, id = await topic(admin, "source"), await topic(admin, "target"), name("mover")
    async with AIOKafkaProducer(**SERVER, transactional_id=name("transaction")) as producer:
        for end, value in (("abort", b"x"), ("commit", b"y")):
            await producer.begin_transaction()
            await producer.send_and_wait(target, value, partition=0)
            await producer.send_offsets_to_transaction({TopicPartition(source, 0): 7}, id)
            await getattr(producer, f"{end}_transaction")()
    same(await read(target, 1, isolation_level="read_committed"), ["y"])
    async with consumer(group=id) as it:
        same(await it.committed(TopicPartition(source, 0)), 7)


unsupported("share group", "the client has no share consumer")


@tried("create, describe, delete topics")
async def _(admin):
    where = await topic(admin, "topics", 3, {"retention.ms": "1000000"})
    described = await admin.describe_topics([where])
    same(len(described[0]["partitions"]), 3)
    await admin.delete_topics([where])
    deadline = time.time() + 20
    while where in await admin.list_topics():
        assert time.time() < deadline
        await asyncio.sleep(0.1)


@tried("add partitions")
async def _(admin):
    where = await topic(admin, "grow", 1)
    await admin.create_partitions({where: NewPartitions(4)})
    same(len((await admin.describe_topics([where]))[0]["partitions"]), 4)


@tried("configs")
async def _(admin):
    where = await topic(admin, "configs")
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, where, {"retention.ms": "5000"})])
    found = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, where)])
    assert "5000" in str(found), str(found)[:200]


@tried("list, describe, delete groups")
async def _(admin):
    where, id = await topic(admin, "administered"), name("administered")
    await send(where, ["a"])
    async with consumer(where, group=id) as it:
        same(await values(it, 1), ["a"])
        await it.commit()
        described = await admin.describe_consumer_groups([id])
        assert "Stable" in str(described), str(described)[:200]
    assert id in str(await admin.list_consumer_groups())
    offsets = await admin.list_consumer_group_offsets(id)
    same(offsets[TopicPartition(where, 0)].offset, 1)


@tried("delete records")
async def _(admin):
    from aiokafka.admin import RecordsToDelete

    where = await topic(admin, "records")
    await send(where, ["a", "b", "c"])
    await admin.delete_records({TopicPartition(where, 0): RecordsToDelete(before_offset=2)})
    same(await read(where, 1), ["c"])


unsupported("delete group offsets", "its admin client has no such call")


@tried("describe cluster")
async def _(admin):
    assert (await admin.describe_cluster())["brokers"]


for rest in (
    "describe log dirs",
    "elect leaders",
    "list reassignments",
    "client quotas",
    "describe producers and transactions",
):
    unsupported(rest, "its admin client has no such call")

run()
