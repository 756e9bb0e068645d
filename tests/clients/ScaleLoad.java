import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/**
 * A producer as people write it first, with default settings: numbered records to every partition
 * for some seconds. Prints "acked N failed M".
 *
 * <p>Arguments: BOOTSTRAP TOPIC PARTITIONS SECONDS
 */
public final class ScaleLoad {
    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[0]);
        properties.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        properties.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        int partitions = Integer.parseInt(args[2]);
        long end = System.nanoTime() + Long.parseLong(args[3]) * 1_000_000_000L;
        AtomicLong acked = new AtomicLong();
        AtomicLong failed = new AtomicLong();
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(properties)) {
            for (long number = 0; System.nanoTime() < end; number++) {
                int partition = (int) (number % partitions);
                String value = "java-" + number;
                producer.send(
                        new ProducerRecord<>(args[1], partition, null, value),
                        (metadata, error) -> {
                            if (error == null) {
                                acked.incrementAndGet();
                            } else {
                                failed.incrementAndGet();
                                System.out.println("failed " + value + " " + error);
                            }
                        });
                Thread.sleep(2);
            }
        }
        System.out.println("acked " + acked + " failed " + failed);
    }
}
