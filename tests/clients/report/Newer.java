import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;

/** What {@code Report} tries where the client is new enough. */
final class Newer {
  static void groupOfTheNewerProtocol() throws Exception {
    Report.group(Map.of("group.protocol", "consumer"));
  }

  static void shareGroup() throws Exception {
    String topic = Report.topic("queue", 2);
    String id = Report.name("sharers");
    ConfigResource resource = new ConfigResource(ConfigResource.Type.GROUP, id);
    Report.admin
        .incrementalAlterConfigs(
            Map.of(
                resource,
                List.of(
                    new AlterConfigOp(
                        new ConfigEntry("share.auto.offset.reset", "earliest"),
                        AlterConfigOp.OpType.SET))))
        .all()
        .get();
    Report.send(topic, 0, Map.of(), Report.numbers("a", 10));
    Report.send(topic, 1, Map.of(), Report.numbers("b", 10));
    Properties properties = new Properties();
    properties.put("bootstrap.servers", Report.bootstrap);
    properties.put("group.id", id);
    Set<String> found = new TreeSet<>();
    try (KafkaShareConsumer<String, String> consumer =
        new KafkaShareConsumer<>(properties, new StringDeserializer(), new StringDeserializer())) {
      consumer.subscribe(List.of(topic));
      Report.until(
          "all records",
          () -> {
            consumer.poll(Duration.ofMillis(200)).forEach(record -> found.add(record.value()));
            return found.size() == 20;
          });
      consumer.commitSync();
    }
    Report.same(
        Report.admin.describeShareGroups(List.of(id)).describedGroups().get(id).get().groupId(), id);
  }

  static void producers() throws Exception {
    String topic = Report.topic("producers", 1);
    String id = Report.name("described");
    TopicPartition place = new TopicPartition(topic, 0);
    try (KafkaProducer<String, String> producer = Report.producer(Map.of("transactional.id", id))) {
      producer.initTransactions();
      producer.beginTransaction();
      producer.send(new ProducerRecord<>(topic, 0, null, "v")).get();
      Report.same(
          Report.admin.describeTransactions(List.of(id)).description(id).get().topicPartitions(), Set.of(place));
      Report.same(
          Report.admin.describeProducers(List.of(place)).partitionResult(place).get().activeProducers().size(), 1);
      Report.same(
          Report.admin.listTransactions().all().get().stream().anyMatch(it -> it.transactionalId().equals(id)), true);
      producer.commitTransaction();
    }
  }
}
