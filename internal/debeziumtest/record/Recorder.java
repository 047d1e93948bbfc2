import com.fasterxml.jackson.databind.ObjectMapper;
import io.debezium.embedded.Connect;
import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import java.io.FileReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.header.Header;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.storage.Converter;
import org.apache.kafka.connect.storage.SimpleHeaderConverter;
import org.apache.kafka.connect.storage.StringConverter;

/**
 * Runs Debezium's embedded engine and writes every record as one line of JSON, as
 * Kafka Connect would hand it to its producer: Recorder PROPERTIES json|string OUTPUT.
 * It ends at the record of the table named finish, which is not written, or at the
 * last record of a snapshot.
 */
public class Recorder {
    static final ObjectMapper JSON = new ObjectMapper();

    static Converter converter(String kind, boolean isKey) {
        Converter c = kind.equals("string") ? new StringConverter() : new JsonConverter();
        c.configure(Map.of("schemas.enable", "false"), isKey);
        return c;
    }

    /** The bytes as JSON: as they are from the JSON converter, else as a text. */
    static String asJson(byte[] bytes, boolean isJson) throws Exception {
        if (bytes == null) {
            return "null";
        }
        String text = new String(bytes, StandardCharsets.UTF_8);
        return isJson ? text : JSON.writeValueAsString(text);
    }

    static String line(SourceRecord r, Converter key, Converter value, boolean isJson) throws Exception {
        StringBuilder b = new StringBuilder("{\"topic\":").append(JSON.writeValueAsString(r.topic()));
        b.append(",\"key\":").append(asJson(key.fromConnectData(r.topic(), r.keySchema(), r.key()), isJson));
        b.append(",\"headers\":{");
        SimpleHeaderConverter headers = new SimpleHeaderConverter();
        String comma = "";
        for (Header h : r.headers()) {
            byte[] text = headers.fromConnectHeader(r.topic(), h.key(), h.schema(), h.value());
            b.append(comma).append(JSON.writeValueAsString(h.key())).append(":").append(asJson(text, false));
            comma = ",";
        }
        b.append("},\"timestamp\":").append(r.timestamp());
        b.append(",\"partition\":").append(r.kafkaPartition());
        b.append(",\"value\":").append(asJson(value.fromConnectData(r.topic(), r.valueSchema(), r.value()), isJson));
        return b.append("}").toString();
    }

    static boolean isLast(SourceRecord r) {
        if (!(r.value() instanceof Struct) || r.valueSchema().field("source") == null) {
            return false;
        }
        return "last".equals(((Struct) r.value()).getStruct("source").getString("snapshot"));
    }

    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        p.load(new FileReader(args[0]));
        boolean isJson = args[1].equals("json");
        Converter key = converter(args[1], true);
        Converter value = converter(args[1], false);
        PrintStream out = new PrintStream(args[2], StandardCharsets.UTF_8);
        CountDownLatch finished = new CountDownLatch(1);
        DebeziumEngine.ChangeConsumer<ChangeEvent<SourceRecord, SourceRecord>> consumer = (events, committer) -> {
            for (ChangeEvent<SourceRecord, SourceRecord> e : (List<ChangeEvent<SourceRecord, SourceRecord>>) events) {
                SourceRecord r = e.value();
                boolean end = r.topic().endsWith(".finish");
                if (!end && finished.getCount() > 0) {
                    try {
                        out.println(line(r, key, value, isJson));
                    } catch (Exception x) {
                        throw new RuntimeException("record of " + r.topic(), x);
                    }
                }
                if (end || isLast(r)) {
                    finished.countDown();
                }
                committer.markProcessed(e);
            }
            committer.markBatchFinished();
        };
        DebeziumEngine<?> engine = DebeziumEngine.create(Connect.class).using(p).notifying(consumer)
                .using((success, message, error) -> {
                    if (finished.getCount() > 0) {
                        System.err.println("the engine ended: " + message);
                        if (error != null) {
                            error.printStackTrace();
                        }
                        Runtime.getRuntime().halt(1);
                    }
                }).build();
        Executors.newSingleThreadExecutor().submit(engine);
        finished.await();
        out.close();
        Runtime.getRuntime().halt(0);
    }
}
