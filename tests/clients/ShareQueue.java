import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A queue that five consumers of a share group drain: usage {@code ShareQueue BOOTSTRAP RECORDS}.
 *
 * <p>One record in ten is released once and must come again, counted as its second delivery; one in fifty
 * always fails and must come no more often than the limit; one consumer leaves in the midst without having
 * acknowledged what it has. In the end every record was accepted once, or had been delivered as often as is
 * allowed.
 */
public final class ShareQueue {
  static final int LIMIT = 5;
  static final String TOPIC = "queue";

  public static void main(String[] arguments) throws Exception {
    String bootstrap = arguments[0];
    int count = Integer.parseInt(arguments[1]);
    try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
      admin.createTopics(List.of(new NewTopic(TOPIC, 2, (short) 1))).all().get();
    }
    ConcurrentMap<String, AtomicInteger> accepted = new ConcurrentHashMap<>();
    ConcurrentMap<String, AtomicInteger> delivered = new ConcurrentHashMap<>();
    AtomicBoolean over = new AtomicBoolean();
    List<Thread> consumers = new ArrayList<>();
    AtomicInteger joined = new AtomicInteger();
    for (int i = 0; i < 5; i++) {
      boolean leaves = i == 4;
      Thread thread =
          new Thread(() -> consume(bootstrap, leaves, accepted, delivered, over, joined));
      thread.start();
      consumers.add(thread);
    }
    while (joined.get() < 5) {
      Thread.sleep(100);
    }
    Thread.sleep(8000);
    Properties properties = new Properties();
    properties.put("bootstrap.servers", bootstrap);
    try (KafkaProducer<String, String> producer =
        new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer())) {
      for (int i = 0; i < count; i++) {
        producer.send(new ProducerRecord<>(TOPIC, i % 2, null, "r" + i));
      }
      producer.flush();
    }
    long deadline = System.currentTimeMillis() + 120_000;
    int poisoned = (count + 49) / 50;
    int before = -1;
    // Until all are accepted and nothing has come for some seconds.
    while (System.currentTimeMillis() < deadline) {
      Thread.sleep(4000);
      int now = delivered.values().stream().mapToInt(AtomicInteger::get).sum();
      if (accepted.size() >= count - poisoned && now == before) {
        break;
      }
      before = now;
    }
    over.set(true);
    for (Thread thread : consumers) {
      thread.join(30_000);
    }
    int twice = 0;
    int above = 0;
    int lost = 0;
    for (int i = 0; i < count; i++) {
      String value = "r" + i;
      int times = accepted.getOrDefault(value, new AtomicInteger()).get();
      int deliveries = delivered.getOrDefault(value, new AtomicInteger()).get();
      lost += i % 50 != 0 && times == 0 ? 1 : 0;
      twice += times > 1 ? 1 : 0;
      above += deliveries > LIMIT ? 1 : 0;
      // One delivery may have been to the consumer that left without looking at it.
      if (i % 50 == 0 && (times > 0 || deliveries < LIMIT - 1)) {
        System.out.println("poison " + value + ": " + times + " accepted, " + deliveries + " deliveries");
        lost += 1;
      }
    }
    System.out.println(
        "records=" + count + " accepted=" + accepted.size() + " lost=" + lost + " twice=" + twice + " above=" + above);
    System.exit(lost + twice + above == 0 ? 0 : 1);
  }

  static void consume(
      String bootstrap,
      boolean leaves,
      ConcurrentMap<String, AtomicInteger> accepted,
      ConcurrentMap<String, AtomicInteger> delivered,
      AtomicBoolean over,
      AtomicInteger joined) {
    Properties properties = new Properties();
    properties.put("bootstrap.servers", bootstrap);
    properties.put("group.id", "workers");
    properties.put("share.acknowledgement.mode", "explicit");
    properties.put("max.poll.records", "50");
    try (KafkaShareConsumer<String, String> consumer =
        new KafkaShareConsumer<>(properties, new StringDeserializer(), new StringDeserializer())) {
      consumer.subscribe(Set.of(TOPIC));
      boolean first = true;
      int polled = 0;
      while (!over.get()) {
        var records = consumer.poll(Duration.ofMillis(500));
        if (first) {
          joined.incrementAndGet();
          first = false;
        }
        for (ConsumerRecord<String, String> record : records) {
          int number = Integer.parseInt(record.value().substring(1));
          delivered.computeIfAbsent(record.value(), any -> new AtomicInteger()).incrementAndGet();
          int deliveries = record.deliveryCount().orElse((short) 0);
          if (leaves && polled > 0) {
            // What it has is let go of, and others get it.
            return;
          }
          if (number % 50 == 0 || number % 10 == 1 && deliveries == 1) {
            consumer.acknowledge(record, AcknowledgeType.RELEASE);
          } else {
            consumer.acknowledge(record, AcknowledgeType.ACCEPT);
            accepted.computeIfAbsent(record.value(), any -> new AtomicInteger()).incrementAndGet();
          }
        }
        polled += records.count();
        if (records.count() > 0) {
          consumer.commitSync();
        }
      }
    }
  }
}
