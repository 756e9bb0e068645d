import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;

/**
 * Kafka Streams with state in RocksDB: a word count, and a join of orders with a table of users.
 *
 * <p>{@code Counts drive BOOTSTRAP GUARANTEE SECONDS DIRECTORY}: writes the input for so long, runs two
 * instances meanwhile, kills the first one and starts it again without its state (which comes back from the
 * changelog), kills the second one and starts it again with its state, and so on in turn, and compares the
 * output with what the input says. {@code Counts run BOOTSTRAP GUARANTEE STATE APPLICATION} is an instance.
 *
 * <p>With {@code exactly_once_v2} each word's counts must be 1, 2, 3 and so on, each once, and each order must
 * come out once; with {@code at_least_once} nothing may be missing.
 */
public final class Counts {
  static final int PARTITIONS = 4;
  static final int USERS = 20;
  static final String[] WORDS = "log batch offset segment quorum epoch fetch flush".split(" ");

  public static void main(String[] arguments) throws Exception {
    if (arguments[0].equals("run")) {
      run(arguments[1], arguments[2], arguments[3], arguments[4]);
    } else {
      boolean good =
          new Drive(arguments[1], arguments[2], Integer.parseInt(arguments[3]), arguments[4]).go();
      System.exit(good ? 0 : 1);
    }
  }

  static void run(String bootstrap, String guarantee, String state, String application)
      throws Exception {
    StreamsBuilder builder = new StreamsBuilder();
    KStream<String, String> lines = builder.stream(application + "-lines");
    lines
        .flatMapValues(line -> Arrays.asList(line.split(" ")))
        .groupBy((key, word) -> word)
        .count()
        .toStream()
        .mapValues(count -> Long.toString(count))
        .to(application + "-counts");
    KTable<String, String> users = builder.table(application + "-users");
    KStream<String, String> orders = builder.stream(application + "-orders");
    orders.join(users, (order, user) -> order + ":" + user).to(application + "-joined");

    Properties properties = new Properties();
    properties.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
    properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
    properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, guarantee);
    properties.put(StreamsConfig.STATE_DIR_CONFIG, state);
    properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 200);
    properties.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
    properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
    properties.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
    properties.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
    properties.put(StreamsConfig.consumerPrefix("session.timeout.ms"), 6000);
    properties.put(StreamsConfig.consumerPrefix("heartbeat.interval.ms"), 1000);
    properties.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
    properties.put(StreamsConfig.producerPrefix("transaction.timeout.ms"), 10_000);
    KafkaStreams streams = new KafkaStreams(builder.build(), properties);
    streams.setUncaughtExceptionHandler(
        error -> {
          System.err.println("a thread is replaced: " + error);
          return StreamThreadExceptionResponse.REPLACE_THREAD;
        });
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
    streams.start();
    // It ends with whoever started it.
    while (System.in.read() >= 0) {}
    System.exit(0);
  }

  static final class Drive {
    final String bootstrap;
    final String guarantee;
    final int seconds;
    final Path directory;
    final String application;
    final Map<String, Integer> expected = new TreeMap<>();
    int orders;
    int kills;

    Drive(String bootstrap, String guarantee, int seconds, String directory) {
      this.bootstrap = bootstrap;
      this.guarantee = guarantee;
      this.seconds = seconds;
      this.directory = Path.of(directory);
      this.application = "app-" + guarantee.replace('_', '-');
    }

    boolean go() throws Exception {
      try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
        List<NewTopic> topics =
            Stream.of("lines", "counts", "users", "orders", "joined")
                .map(name -> new NewTopic(application + "-" + name, PARTITIONS, (short) 1))
                .collect(Collectors.toList());
        admin.createTopics(topics).all().get();
      }
      Properties properties = new Properties();
      properties.put("bootstrap.servers", bootstrap);
      properties.put("enable.idempotence", true);
      properties.put("delivery.timeout.ms", 600_000);
      List<Instance> instances = new ArrayList<>();
      try (KafkaProducer<String, String> producer =
          new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer())) {
        for (int user = 0; user < USERS; user++) {
          producer.send(new ProducerRecord<>(application + "-users", "u" + user, "name" + user));
        }
        producer.flush();
        Random random = new Random(7);
        long begun = System.nanoTime();
        instances.add(new Instance("one"));
        long step = Math.min(seconds * 250L, 20_000);
        long next = step;
        for (long at = 0; at < seconds * 1000L; at = (System.nanoTime() - begun) / 1_000_000) {
          write(producer, random);
          if (at >= next && instances.size() == 1) {
            instances.add(new Instance("two"));
            next = at + step;
          } else if (at >= next && instances.get(kills % 2).hasState()) {
            Instance victim = instances.get(kills % 2);
            victim.kill();
            if (kills % 2 == 0) {
              victim.forget();
            }
            victim.start();
            kills++;
            next = at + step;
          }
          Thread.sleep(20);
        }
        producer.flush();
      }
      String verdict = "not done in time";
      long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(90);
      while (System.nanoTime() < deadline && !verdict.startsWith("good")) {
        verdict = judge();
        Thread.sleep(500);
      }
      for (Instance instance : instances) {
        instance.stop();
      }
      // What comes late would be too much.
      if (verdict.startsWith("good")) {
        verdict = judge();
      }
      System.out.println(guarantee + " " + verdict);
      return verdict.startsWith("good");
    }

    void write(KafkaProducer<String, String> producer, Random random) {
      String line =
          IntStream.range(0, 5)
              .mapToObj(place -> WORDS[random.nextInt(WORDS.length)])
              .collect(Collectors.joining(" "));
      for (String word : line.split(" ")) {
        expected.merge(word, 1, Integer::sum);
      }
      producer.send(new ProducerRecord<>(application + "-lines", line));
      String user = "u" + random.nextInt(USERS);
      producer.send(new ProducerRecord<>(application + "-orders", user, user + "-" + orders++));
    }

    String judge() {
      boolean exact = guarantee.equals("exactly_once_v2");
      Map<String, List<Integer>> counts = new HashMap<>();
      for (ConsumerRecord<String, String> record : read(application + "-counts")) {
        counts
            .computeIfAbsent(record.key(), key -> new ArrayList<>())
            .add(Integer.parseInt(record.value()));
      }
      for (Map.Entry<String, Integer> word : expected.entrySet()) {
        List<Integer> seen = counts.getOrDefault(word.getKey(), List.of());
        int last = seen.isEmpty() ? 0 : seen.get(seen.size() - 1);
        if (exact) {
          for (int place = 0; place < seen.size(); place++) {
            if (seen.get(place) != place + 1) {
              return "wrong: count " + (place + 1) + " of " + word.getKey() + " is " + seen.get(place);
            }
          }
          if (last > word.getValue()) {
            return "wrong: " + word.getKey() + " was counted " + last + " times, not " + word.getValue();
          }
        }
        if (last < word.getValue()) {
          return "short: " + word.getKey() + " " + last + " of " + word.getValue();
        }
      }
      Map<String, Integer> joined = new HashMap<>();
      for (ConsumerRecord<String, String> record : read(application + "-joined")) {
        joined.merge(record.value(), 1, Integer::sum);
        String[] parts = record.value().split("[-:]");
        if (!("name" + parts[0].substring(1)).equals(parts[2])) {
          return "wrong: joined " + record.value();
        }
      }
      int twice = (int) joined.values().stream().filter(times -> times > 1).count();
      if (exact && twice > 0) {
        return "wrong: " + twice + " orders came out more than once";
      }
      if (joined.size() < orders) {
        return "short: " + joined.size() + " of " + orders + " orders";
      }
      return "good: " + expected.values().stream().mapToInt(it -> it).sum() + " words, " + orders
          + " orders, " + twice + " of them repeated, " + kills + " kills";
    }

    List<ConsumerRecord<String, String>> read(String topic) {
      Properties properties = new Properties();
      properties.put("bootstrap.servers", bootstrap);
      properties.put("isolation.level", "read_committed");
      List<ConsumerRecord<String, String>> records = new ArrayList<>();
      try (KafkaConsumer<String, String> consumer =
          new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer())) {
        List<TopicPartition> partitions =
            IntStream.range(0, PARTITIONS)
                .mapToObj(partition -> new TopicPartition(topic, partition))
                .collect(Collectors.toList());
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
        while (partitions.stream().anyMatch(it -> consumer.position(it) < ends.get(it))) {
          consumer.poll(Duration.ofMillis(100)).forEach(records::add);
        }
      }
      return records;
    }

    /** An instance of the application, in a process of its own. */
    final class Instance {
      final Path state;
      final File log;
      Process process;

      Instance(String name) throws IOException {
        state = directory.resolve(application + "-" + name);
        log = directory.resolve(application + "-" + name + ".log").toFile();
        start();
      }

      void start() throws IOException {
        List<String> command =
            List.of(
                "java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", System.getProperty("java.class.path"),
                source(), "run", bootstrap, guarantee, state.toString(), application);
        process =
            new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(log))
                .start();
      }

      /** Kills it in the midst of its work. */
      void kill() throws InterruptedException {
        if (!process.isAlive()) {
          throw new IllegalStateException("an instance has ended by itself, see " + log);
        }
        process.destroyForcibly().waitFor();
      }

      /** Whether it has come so far that it has state. */
      boolean hasState() throws IOException {
        if (!Files.exists(state)) {
          return false;
        }
        try (Stream<Path> files = Files.walk(state)) {
          return files.anyMatch(it -> it.endsWith("rocksdb"));
        } catch (UncheckedIOException changed) {
          return false;
        }
      }

      void forget() throws IOException {
        try (Stream<Path> files = Files.walk(state)) {
          files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
        }
      }

      void stop() throws Exception {
        process.getOutputStream().close();
        if (!process.waitFor(20, TimeUnit.SECONDS)) {
          process.destroyForcibly().waitFor();
        }
      }
    }

    static String source() {
      return System.getProperty("counts.source");
    }
  }
}
