import java.io.IOException;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** A worker of {@code eos.py} with Kafka's own client: usage {@code Eos ADDRESSES NAME SLOT}. */
public final class Eos {
  public static void main(String[] arguments) throws Exception {
    String addresses = arguments[0];
    String name = arguments[1];
    String slot = arguments[2];
    AtomicBoolean running = new AtomicBoolean(true);
    Thread main = Thread.currentThread();
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  running.set(false);
                  try {
                    main.join(15_000);
                  } catch (InterruptedException ignored) {
                    // It ends anyway.
                  }
                }));
    // It ends with whoever started it, however that ended.
    Thread watch =
        new Thread(
            () -> {
              try {
                while (System.in.read() >= 0) {}
              } catch (IOException ignored) {
                // As good as an end.
              }
              Runtime.getRuntime().halt(1);
            });
    watch.setDaemon(true);
    watch.start();
    Properties reading = new Properties();
    reading.put("bootstrap.servers", addresses);
    reading.put("group.id", name);
    reading.put("isolation.level", "read_committed");
    reading.put("auto.offset.reset", "earliest");
    reading.put("enable.auto.commit", false);
    reading.put("max.poll.records", 50);
    reading.put("group.protocol", System.getProperty("group.protocol", "classic"));
    if (System.getProperty("group.protocol", "classic").equals("classic")) {
      reading.put("session.timeout.ms", 6000);
      reading.put("heartbeat.interval.ms", 1000);
    }
    try (KafkaConsumer<String, String> consumer =
        new KafkaConsumer<>(reading, new StringDeserializer(), new StringDeserializer())) {
      consumer.subscribe(List.of(name + "-in"));
      KafkaProducer<String, String> producer = producer(addresses, name, slot);
      while (running.get()) {
        ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
        if (records.isEmpty()) {
          continue;
        }
        try {
          move(consumer, producer, records, name);
        } catch (KafkaException error) {
          System.err.println("again " + error);
          try {
            producer.abortTransaction();
          } catch (KafkaException fatal) {
            producer.close(Duration.ZERO);
            producer = producer(addresses, name, slot);
          }
          back(consumer);
        }
      }
      producer.close(Duration.ofSeconds(5));
    }
  }

  static KafkaProducer<String, String> producer(String addresses, String name, String slot) {
    Properties writing = new Properties();
    writing.put("bootstrap.servers", addresses);
    writing.put("transactional.id", name + "-" + slot);
    writing.put("transaction.timeout.ms", 15_000);
    while (true) {
      KafkaProducer<String, String> producer =
          new KafkaProducer<>(writing, new StringSerializer(), new StringSerializer());
      try {
        producer.initTransactions();
        return producer;
      } catch (KafkaException error) {
        System.err.println("init " + error);
        producer.close(Duration.ZERO);
      }
    }
  }

  static void move(
      KafkaConsumer<String, String> consumer,
      KafkaProducer<String, String> producer,
      ConsumerRecords<String, String> records,
      String name) {
    String transaction = UUID.randomUUID().toString().replace("-", "");
    producer.beginTransaction();
    Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
    for (ConsumerRecord<String, String> record : records) {
      String text = record.value() + " " + transaction + " " + records.count();
      producer.send(new ProducerRecord<>(name + "-left", record.partition(), null, text));
      producer.send(new ProducerRecord<>(name + "-right", record.value(), text));
      offsets.put(
          new TopicPartition(record.topic(), record.partition()),
          new OffsetAndMetadata(record.offset() + 1));
    }
    producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
    producer.commitTransaction();
  }

  /** Goes back to what was committed. */
  static void back(KafkaConsumer<String, String> consumer) {
    while (true) {
      try {
        Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(consumer.assignment());
        committed.forEach(
            (partition, offset) -> {
              if (offset == null) {
                consumer.seekToBeginning(List.of(partition));
              } else {
                consumer.seek(partition, offset.offset());
              }
            });
        return;
      } catch (RetriableException error) {
        System.err.println("back " + error);
      }
    }
  }
}
