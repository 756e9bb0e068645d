import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/** Writes a record in a transaction, and dies: {@code OpenTransaction.java bootstrap topic id}. */
public class OpenTransaction {
    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("transactional.id", arguments[2]);
        var text = new StringSerializer();
        var producer = new KafkaProducer<>(settings, text, text);
        producer.initTransactions();
        producer.beginTransaction();
        producer.send(new ProducerRecord<>(arguments[1], 0, "key", "value")).get();
        Runtime.getRuntime().halt(0);
    }
}
