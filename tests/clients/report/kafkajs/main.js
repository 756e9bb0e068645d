// The report of kafkajs: node main.js ADDRESS

const { Kafka, logLevel, CompressionTypes, ConfigResourceTypes } = require("kafkajs");
const assert = require("node:assert");
const { randomUUID } = require("node:crypto");

const RUN = randomUUID().slice(0, 8);
const kafka = new Kafka({ brokers: [process.argv[2]], logLevel: logLevel.NOTHING });
const admin = kafka.admin();
let given = 0;

const name = (what) => `report-${what}-${given++}-${RUN}`;
const tell = (...line) => console.log(line.join("\t"));
const rest = (millis) => new Promise((resolve) => setTimeout(resolve, millis));

async function tried(feature, trial) {
  try {
    await trial();
    tell(feature, "pass", "");
  } catch (error) {
    tell(feature, "fail", `${error}`.replace(/\s+/g, " ").slice(0, 200));
  }
}

const unsupported = (feature, why) => tell(feature, "-", why);

async function until(what, holds) {
  const deadline = Date.now() + 30000;
  while (!(await holds())) {
    assert(Date.now() < deadline, `gave up waiting for ${what}`);
    await rest(50);
  }
}

async function topic(what, numPartitions = 1) {
  const made = name(what);
  await admin.createTopics({ topics: [{ topic: made, numPartitions, replicationFactor: 1 }] });
  return made;
}

async function send(where, messages, settings = {}, sending = {}) {
  const producer = kafka.producer(settings);
  await producer.connect();
  await producer.send({ topic: where, messages, ...sending });
  await producer.disconnect();
}

const text = (values, partition = 0) => values.map((value) => ({ value, partition }));

async function reader(where, groupId, settings = {}) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 500, ...settings });
  const found = [];
  const owned = new Set();
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    owned.clear();
    Object.values(payload.memberAssignment).flat().forEach((it) => owned.add(it));
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [where], fromBeginning: true });
  await consumer.run({ autoCommitInterval: 200, eachMessage: async ({ message }) => found.push(message) });
  return { consumer, found, owned };
}

async function read(where, count, settings = {}) {
  const it = await reader(where, name("reader"), settings);
  await until(`${count} records`, () => it.found.length >= count);
  await it.consumer.disconnect();
  return it.found.map((message) => message.value.toString());
}

async function main() {
  await admin.connect();
  await tried("produce and consume", async () => {
    const where = await topic("plain");
    await send(where, [{ key: "k", value: "v", headers: { h: "x" }, timestamp: "1234567890123", partition: 0 }]);
    const it = await reader(where, name("plain"));
    await until("a record", () => it.found.length === 1);
    await it.consumer.disconnect();
    const [got] = it.found;
    assert.deepEqual([`${got.key}`, `${got.value}`, `${got.headers.h}`, got.timestamp], ["k", "v", "x", "1234567890123"]);
  });
  await tried("compression codecs", async () => {
    const where = await topic("codecs");
    const sent = [];
    for (const compression of [CompressionTypes.None, CompressionTypes.GZIP]) {
      const values = [...Array(20).keys()].map((number) => `${compression}-${number}`.repeat(20));
      await send(where, text(values), {}, { compression });
      sent.push(...values);
    }
    assert.deepEqual(await read(where, sent.length), sent);
  });
  await tried("idempotent producer", async () => {
    const where = await topic("idempotent");
    const sent = [...Array(100).keys()].map(String);
    await send(where, text(sent), { idempotent: true });
    assert.deepEqual(await read(where, 100), sent);
  });
  await tried("offsets by time", async () => {
    const where = await topic("times");
    const at = (number) => `${1000000000000 + number * 1000}`;
    await send(where, [0, 1, 2].map((number) => ({ value: "v", timestamp: at(number), partition: 0 })));
    const [found] = await admin.fetchTopicOffsetsByTimestamp(where, 1000000000500);
    assert.equal(found.offset, "1");
    const [{ low, high }] = await admin.fetchTopicOffsets(where);
    assert.deepEqual([low, high], ["0", "3"]);
  });
  await tried("consumer group", async () => {
    const [where, id] = [await topic("group", 4), name("group")];
    const first = await reader(where, id);
    const second = await reader(where, id);
    await until("two members to share", () => first.owned.size === 2 && second.owned.size === 2);
    for (const partition of [0, 1, 2, 3]) {
      await send(where, text(["a", "b", "c"], partition));
    }
    await until("all records", () => first.found.length + second.found.length === 12);
    await second.consumer.disconnect();
    await until("one to have all", () => first.owned.size === 4);
    await rest(500);
    await first.consumer.disconnect();
    await send(where, text(["new"], 3));
    const third = await reader(where, id);
    await until("what is new", () => third.found.length > 0);
    await third.consumer.disconnect();
    assert.deepEqual(third.found.map((it) => `${it.value}`), ["new"]);
  });
  unsupported("cooperative rebalancing", "the client has no cooperative assignor");
  unsupported("consumer group, KIP-848", "the client speaks the classic protocol");
  unsupported("static member", "the client has no static membership");
  await tried("subscription by pattern", async () => {
    const where = await topic("pattern");
    await send(where, text(["a"]));
    const it = await reader(new RegExp(`report-pat.*${RUN}`), name("pattern"));
    await until("a record", () => it.found.length === 1);
    await it.consumer.disconnect();
  });
  await tried("transactions", async () => {
    const [source, target, id] = [await topic("source"), await topic("target"), name("mover")];
    const producer = kafka.producer({ transactionalId: name("transaction"), maxInFlightRequests: 1, idempotent: true });
    await producer.connect();
    for (const end of ["abort", "commit"]) {
      const transaction = await producer.transaction();
      await transaction.send({ topic: target, messages: [{ value: end, partition: 0 }] });
      const topics = [{ topic: source, partitions: [{ partition: 0, offset: "7" }] }];
      await transaction.sendOffsets({ consumerGroupId: id, topics });
      await transaction[end]();
    }
    await producer.disconnect();
    assert.deepEqual(await read(target, 1, { readUncommitted: false }), ["commit"]);
    const [{ partitions }] = await admin.fetchOffsets({ groupId: id, topics: [source] });
    assert.equal(partitions[0].offset, "7");
  });
  unsupported("share group", "the client has no share consumer");
  await tried("create, describe, delete topics", async () => {
    const where = await topic("topics", 3);
    const { topics } = await admin.fetchTopicMetadata({ topics: [where] });
    assert.equal(topics[0].partitions.length, 3);
    await admin.deleteTopics({ topics: [where] });
    await until("it to be gone", async () => !(await admin.listTopics()).includes(where));
  });
  await tried("add partitions", async () => {
    const where = await topic("grow");
    await admin.createPartitions({ topicPartitions: [{ topic: where, count: 4 }] });
    const { topics } = await admin.fetchTopicMetadata({ topics: [where] });
    assert.equal(topics[0].partitions.length, 4);
  });
  await tried("configs", async () => {
    const resource = { type: ConfigResourceTypes.TOPIC, name: await topic("configs") };
    const configEntries = [{ name: "retention.ms", value: "5000" }];
    await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries }] });
    const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] });
    const entry = resources[0].configEntries.find((it) => it.configName === "retention.ms");
    assert.equal(entry.configValue, "5000");
  });
  await tried("list, describe, delete groups", async () => {
    const [where, id] = [await topic("administered"), name("administered")];
    await send(where, text(["a"]));
    const it = await reader(where, id);
    await until("a record", () => it.found.length === 1);
    const { groups } = await admin.describeGroups([id]);
    assert.deepEqual([groups[0].state, groups[0].members.length], ["Stable", 1]);
    await rest(500);
    await it.consumer.disconnect();
    const listed = async () => (await admin.listGroups()).groups.some((found) => found.groupId === id);
    assert(await listed());
    const [{ partitions }] = await admin.fetchOffsets({ groupId: id, topics: [where] });
    assert.equal(partitions[0].offset, "1");
    await admin.deleteGroups([id]);
    assert(!(await listed()));
  });
  await tried("delete records", async () => {
    const where = await topic("records");
    await send(where, text(["a", "b", "c"]));
    // The client knows only leaders of topics that it was asked about before.
    await admin.fetchTopicOffsets(where);
    await admin.deleteTopicRecords({ topic: where, partitions: [{ partition: 0, offset: "2" }] });
    assert.deepEqual(await read(where, 1), ["c"]);
  });
  unsupported("delete group offsets", "its admin client has no such call");
  await tried("describe cluster", async () => {
    const { brokers, clusterId } = await admin.describeCluster();
    assert(brokers.length > 0 && clusterId);
  });
  unsupported("describe log dirs", "its admin client has no such call");
  unsupported("elect leaders", "its admin client has no such call");
  await tried("list reassignments", async () => {
    const { topics } = await admin.listPartitionReassignments({ topics: null });
    assert.deepEqual(topics, []);
  });
  unsupported("client quotas", "its admin client has no such call");
  unsupported("describe producers and transactions", "its admin client has no such call");
  await admin.disconnect();
  process.exit(0);
}

main();
