import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeTopicsResult;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * The report of Kafka's own clients: usage {@code Report BOOTSTRAP}.
 *
 * <p>Compiled against an old release as well, so what is newer is called by {@code Newer.java}, where it is
 * there.
 */
public final class Report {
  static final String RUN = UUID.randomUUID().toString().substring(0, 8);
  static String bootstrap;
  static Admin admin;
  static int given;

  interface Trial {
    void run() throws Exception;
  }

  public static void main(String[] arguments) throws Exception {
    bootstrap = arguments[0];
    admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
    tried("produce and consume", Report::produce);
    tried("compression codecs", Report::codecs);
    tried("idempotent producer", Report::idempotent);
    tried("offsets by time", Report::times);
    tried("consumer group", () -> group(Map.of()));
    tried("cooperative rebalancing", () -> group(Map.of("partition.assignment.strategy",
        "org.apache.kafka.clients.consumer.CooperativeStickyAssignor")));
    newer("consumer group, KIP-848", "groupOfTheNewerProtocol");
    tried("static member", Report::staticMember);
    tried("subscription by pattern", Report::pattern);
    tried("transactions", Report::transactions);
    newer("share group", "shareGroup");
    tried("create, describe, delete topics", Report::topics);
    tried("add partitions", Report::partitions);
    tried("configs", Report::configs);
    tried("list, describe, delete groups", Report::groups);
    tried("delete records", Report::records);
    tried("delete group offsets", Report::offsets);
    tried("describe cluster", Report::cluster);
    tried("describe log dirs", Report::logDirs);
    tried("elect leaders", Report::elections);
    tried("list reassignments", Report::reassignments);
    tried("client quotas", Report::quotas);
    newer("describe producers and transactions", "producers");
    admin.close(Duration.ofSeconds(5));
    System.exit(0);
  }

  static void tried(String feature, Trial trial) {
    try {
      trial.run();
      tell(feature, "pass", "");
    } catch (Throwable error) {
      Throwable cause = error;
      while ((cause instanceof ExecutionException || cause instanceof InvocationTargetException)
          && cause.getCause() != null) {
        cause = cause.getCause();
      }
      String text = cause.toString().replaceAll("\\s+", " ");
      tell(feature, "fail", text.substring(0, Math.min(200, text.length())));
    }
  }

  static void newer(String feature, String method) {
    Class<?> newer;
    try {
      newer = Class.forName("Newer");
    } catch (ClassNotFoundException missing) {
      tell(feature, "-", "not in this release of the client");
      return;
    }
    tried(feature, () -> newer.getDeclaredMethod(method).invoke(null));
  }

  static void tell(String feature, String verdict, String why) {
    System.out.println(feature + "\t" + verdict + "\t" + why);
  }

  static String name(String what) {
    return "report-" + what + "-" + given++ + "-" + RUN;
  }

  static void same(Object found, Object wanted) {
    if (!found.equals(wanted)) {
      throw new AssertionError("found " + found + ", wanted " + wanted);
    }
  }

  static void until(String what, Callable<Boolean> holds) throws Exception {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
    while (!holds.call()) {
      if (System.nanoTime() > deadline) {
        throw new AssertionError("gave up waiting for " + what);
      }
      Thread.sleep(20);
    }
  }

  static String topic(String what, int partitions) throws Exception {
    String made = name(what);
    admin.createTopics(List.of(new NewTopic(made, partitions, (short) 1))).all().get();
    return made;
  }

  static KafkaProducer<String, String> producer(Map<String, Object> settings) {
    Properties properties = new Properties();
    properties.put("bootstrap.servers", bootstrap);
    properties.putAll(settings);
    return new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
  }

  static void send(String topic, int partition, Map<String, Object> settings, List<String> values)
      throws Exception {
    try (KafkaProducer<String, String> producer = producer(settings)) {
      List<java.util.concurrent.Future<?>> sent = new ArrayList<>();
      for (String value : values) {
        sent.add(producer.send(new ProducerRecord<>(topic, partition, null, value)));
      }
      for (java.util.concurrent.Future<?> each : sent) {
        each.get();
      }
    }
  }

  static KafkaConsumer<String, String> consumer(String group, Map<String, Object> settings) {
    Properties properties = new Properties();
    properties.put("bootstrap.servers", bootstrap);
    if (group != null) {
      properties.put("group.id", group);
    }
    properties.put("auto.offset.reset", "earliest");
    properties.put("enable.auto.commit", false);
    properties.putAll(settings);
    return new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
  }

  static List<String> polled(KafkaConsumer<String, String> consumer) {
    List<String> found = new ArrayList<>();
    consumer.poll(Duration.ofMillis(100)).forEach(record -> found.add(record.value()));
    return found;
  }

  static List<String> values(KafkaConsumer<String, String> consumer, int count) throws Exception {
    List<String> found = new ArrayList<>();
    until(count + " records", () -> {
      found.addAll(polled(consumer));
      return found.size() >= count;
    });
    return found;
  }

  static List<String> read(String topic, int count, Map<String, Object> settings) throws Exception {
    try (KafkaConsumer<String, String> consumer = consumer(null, settings)) {
      TopicPartition place = new TopicPartition(topic, 0);
      consumer.assign(List.of(place));
      consumer.seekToBeginning(List.of(place));
      return values(consumer, count);
    }
  }

  static List<String> numbers(String prefix, int count) {
    return IntStream.range(0, count).mapToObj(n -> prefix + n).collect(Collectors.toList());
  }

  static void produce() throws Exception {
    String topic = topic("plain", 2);
    try (KafkaProducer<String, String> producer = producer(Map.of())) {
      ProducerRecord<String, String> record = new ProducerRecord<>(topic, 1, 1234567890123L, "k", "v");
      record.headers().add(new RecordHeader("h", new byte[] {7}));
      same(producer.send(record).get().offset(), 0L);
    }
    try (KafkaConsumer<String, String> consumer = consumer(null, Map.of())) {
      consumer.assign(List.of(new TopicPartition(topic, 1)));
      consumer.seekToBeginning(consumer.assignment());
      List<ConsumerRecord<String, String>> found = new ArrayList<>();
      until("a record", () -> {
        consumer.poll(Duration.ofMillis(100)).forEach(found::add);
        return !found.isEmpty();
      });
      ConsumerRecord<String, String> got = found.get(0);
      same(List.of(got.key(), got.value(), got.timestamp()), List.of("k", "v", 1234567890123L));
      same((int) got.headers().lastHeader("h").value()[0], 7);
    }
  }

  static void codecs() throws Exception {
    String topic = topic("codecs", 1);
    List<String> wanted = new ArrayList<>();
    for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
      List<String> sent = numbers((codec + " ").repeat(20), 20);
      send(topic, 0, Map.of("compression.type", codec, "linger.ms", 50), sent);
      wanted.addAll(sent);
    }
    same(read(topic, wanted.size(), Map.of()), wanted);
  }

  static void idempotent() throws Exception {
    String topic = topic("idempotent", 1);
    send(topic, 0, Map.of("enable.idempotence", true), numbers("", 500));
    same(read(topic, 500, Map.of()), numbers("", 500));
  }

  static void times() throws Exception {
    String topic = topic("times", 1);
    try (KafkaProducer<String, String> producer = producer(Map.of())) {
      for (int n = 0; n < 3; n++) {
        producer.send(new ProducerRecord<>(topic, 0, 1_000_000_000_000L + n * 1000, null, "v")).get();
      }
    }
    TopicPartition place = new TopicPartition(topic, 0);
    Map<OffsetSpec, Long> wanted = Map.of(OffsetSpec.earliest(), 0L, OffsetSpec.latest(), 3L,
        OffsetSpec.forTimestamp(1_000_000_000_500L), 1L);
    for (Map.Entry<OffsetSpec, Long> each : wanted.entrySet()) {
      same(admin.listOffsets(Map.of(place, each.getKey())).partitionResult(place).get().offset(), each.getValue());
    }
  }

  /** Whether a member has so many partitions and has read them to their ends. */
  static boolean hasRead(KafkaConsumer<String, String> consumer, int partitions) {
    Set<TopicPartition> places = consumer.assignment();
    return places.size() == partitions && places.stream().allMatch(it -> consumer.position(it) == 5);
  }

  /** Two members share, one leaves, the other goes on from the commit. */
  static void group(Map<String, Object> settings) throws Exception {
    String topic = topic("group", 4);
    String id = name("group");
    Map<String, Object> all = new java.util.HashMap<>(settings);
    if (!settings.containsKey("group.protocol")) {
      all.put("session.timeout.ms", 6000);
      all.put("heartbeat.interval.ms", 300);
    }
    for (int partition = 0; partition < 4; partition++) {
      send(topic, partition, Map.of(), numbers(partition + "-", 5));
    }
    Set<String> found = new HashSet<>();
    try (KafkaConsumer<String, String> first = consumer(id, all)) {
      first.subscribe(List.of(topic));
      try (KafkaConsumer<String, String> second = consumer(id, all)) {
        second.subscribe(List.of(topic));
        until("two members to share, and all records", () -> {
          found.addAll(polled(first));
          found.addAll(polled(second));
          return hasRead(first, 2) && hasRead(second, 2) && found.size() == 20;
        });
        first.commitSync();
        second.commitSync();
      }
      until("one to have all", () -> polled(first).isEmpty() && first.assignment().size() == 4);
    }
    send(topic, 3, Map.of(), List.of("new"));
    try (KafkaConsumer<String, String> third = consumer(id, all)) {
      third.subscribe(List.of(topic));
      same(values(third, 1), List.of("new"));
    }
  }

  static void staticMember() throws Exception {
    String topic = topic("static", 1);
    String id = name("static");
    Map<String, Object> settings = Map.of("group.instance.id", "one", "session.timeout.ms", 10_000);
    for (String value : List.of("a", "b")) {
      send(topic, 0, Map.of(), List.of(value));
      try (KafkaConsumer<String, String> consumer = consumer(id, settings)) {
        consumer.subscribe(List.of(topic));
        same(values(consumer, 1), List.of(value));
        consumer.commitSync();
      }
    }
    same(admin.describeConsumerGroups(List.of(id)).describedGroups().get(id).get().members().iterator().next()
        .groupInstanceId(), Optional.of("one"));
  }

  static void pattern() throws Exception {
    String topic = topic("pattern", 1);
    send(topic, 0, Map.of(), List.of("a"));
    try (KafkaConsumer<String, String> consumer = consumer(name("pattern"), Map.of())) {
      consumer.subscribe(Pattern.compile("report-pat.*" + RUN));
      same(values(consumer, 1), List.of("a"));
    }
  }

  static void transactions() throws Exception {
    String source = topic("source", 1);
    String target = topic("target", 1);
    String id = name("mover");
    send(source, 0, Map.of(), List.of("a", "b"));
    try (KafkaConsumer<String, String> consumer = consumer(id, Map.of());
        KafkaProducer<String, String> producer = producer(Map.of("transactional.id", name("transaction")))) {
      consumer.subscribe(List.of(source));
      values(consumer, 2);
      producer.initTransactions();
      TopicPartition place = new TopicPartition(source, 0);
      for (String value : List.of("aborted", "committed")) {
        producer.beginTransaction();
        producer.send(new ProducerRecord<>(target, 0, null, value));
        producer.sendOffsetsToTransaction(Map.of(place, new OffsetAndMetadata(2)), consumer.groupMetadata());
        if (value.equals("aborted")) {
          producer.abortTransaction();
        } else {
          producer.commitTransaction();
        }
      }
      same(read(target, 1, Map.of("isolation.level", "read_committed")), List.of("committed"));
      same(consumer.committed(Set.of(place)).get(place).offset(), 2L);
    }
  }

  /** The call has another name in newer releases. */
  @SuppressWarnings("unchecked")
  static int partitionsOf(String topic) throws Exception {
    DescribeTopicsResult described = admin.describeTopics(List.of(topic));
    Method all;
    try {
      all = DescribeTopicsResult.class.getMethod("allTopicNames");
    } catch (NoSuchMethodException old) {
      all = DescribeTopicsResult.class.getMethod("all");
    }
    KafkaFuture<Map<String, TopicDescription>> topics =
        (KafkaFuture<Map<String, TopicDescription>>) all.invoke(described);
    return topics.get().get(topic).partitions().size();
  }

  static void topics() throws Exception {
    String topic = topic("topics", 3);
    same(partitionsOf(topic), 3);
    admin.deleteTopics(List.of(topic)).all().get();
    until("it to be gone", () -> !admin.listTopics().names().get().contains(topic));
  }

  static void partitions() throws Exception {
    String topic = topic("grow", 1);
    admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
    until("four", () -> partitionsOf(topic) == 4);
  }

  static void configs() throws Exception {
    ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic("configs", 1));
    Collection<AlterConfigOp> changes =
        List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "5000"), AlterConfigOp.OpType.SET));
    admin.incrementalAlterConfigs(Map.of(resource, changes)).all().get();
    Config config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
    same(config.get("retention.ms").value(), "5000");
    same(config.get("retention.ms").source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG);
  }

  static String committedGroup(String topic) throws Exception {
    String id = name("administered");
    send(topic, 0, Map.of(), List.of("a"));
    try (KafkaConsumer<String, String> consumer = consumer(id, Map.of())) {
      consumer.subscribe(List.of(topic));
      values(consumer, 1);
      consumer.commitSync();
      same(admin.describeConsumerGroups(List.of(id)).describedGroups().get(id).get().members().size(), 1);
    }
    return id;
  }

  static void groups() throws Exception {
    String topic = topic("administered", 1);
    String id = committedGroup(topic);
    Callable<Boolean> listed =
        () -> admin.listConsumerGroups().all().get().stream().anyMatch(found -> found.groupId().equals(id));
    same(listed.call(), true);
    TopicPartition place = new TopicPartition(topic, 0);
    same(admin.listConsumerGroupOffsets(id).partitionsToOffsetAndMetadata().get().get(place).offset(), 1L);
    admin.alterConsumerGroupOffsets(id, Map.of(place, new OffsetAndMetadata(0))).all().get();
    admin.deleteConsumerGroups(List.of(id)).all().get();
    same(listed.call(), false);
  }

  static void records() throws Exception {
    String topic = topic("records", 1);
    send(topic, 0, Map.of(), List.of("a", "b", "c"));
    TopicPartition place = new TopicPartition(topic, 0);
    same(admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(2))).lowWatermarks().get(place).get()
        .lowWatermark(), 2L);
    same(read(topic, 1, Map.of()), List.of("c"));
  }

  static void offsets() throws Exception {
    String topic = topic("forgotten", 1);
    String id = committedGroup(topic);
    admin.deleteConsumerGroupOffsets(id, Set.of(new TopicPartition(topic, 0))).all().get();
    same(admin.listConsumerGroupOffsets(id).partitionsToOffsetAndMetadata().get().size(), 0);
  }

  static void cluster() throws Exception {
    same(admin.describeCluster().nodes().get().isEmpty(), false);
    same(admin.describeCluster().clusterId().get().isEmpty(), false);
  }

  static void logDirs() throws Exception {
    String topic = topic("dirs", 1);
    send(topic, 0, Map.of(), List.of("a"));
    int node = admin.describeCluster().nodes().get().iterator().next().id();
    TopicPartition place = new TopicPartition(topic, 0);
    same(admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node).values().stream()
        .anyMatch(dir -> dir.replicaInfos().containsKey(place)), true);
  }

  static void elections() throws Exception {
    TopicPartition place = new TopicPartition(topic("elect", 1), 0);
    Optional<Throwable> error =
        admin.electLeaders(ElectionType.PREFERRED, Set.of(place)).partitions().get().get(place);
    same(error.isEmpty() || error.get() instanceof ElectionNotNeededException, true);
  }

  static void reassignments() throws Exception {
    same(admin.listPartitionReassignments().reassignments().get().isEmpty(), true);
  }

  static void quotas() throws Exception {
    ClientQuotaEntity entity = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, name("quota")));
    admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity,
        List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1e6))))).all().get();
    same(admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get().get(entity),
        Map.of("producer_byte_rate", 1e6));
  }
}
