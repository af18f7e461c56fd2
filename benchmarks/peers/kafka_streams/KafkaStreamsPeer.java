import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.time.Duration;
import java.time.Instant;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The workloads as the documentation of Kafka Streams writes them.
 *
 * <p>KafkaStreamsPeer SERVERS INPUT OUTPUT WORKLOAD durable|light DIRECTORY
 */
public final class KafkaStreamsPeer {
    private static final Duration GAP = Duration.ofMinutes(30);
    private static final Duration WINDOW = Duration.ofMinutes(10);
    private static final Duration WAIT = Duration.ofMinutes(30);
    // A window is emitted once a second of the wall at most; by default its store forgets it as soon
    // as it may be emitted, and a backlog passes hours of event time within that second.
    private static final Duration KEPT = Duration.ofDays(30);
    private static final int FLAGGED_FROM = 4;
    private static final ObjectMapper JSON = new ObjectMapper();

    @JsonIgnoreProperties(ignoreUnknown = true)
    public record Visit(String user_id, String event_timestamp) {}

    @JsonIgnoreProperties(ignoreUnknown = true)
    public record Payment(
            String transaction_id, String user_id, String event_timestamp, BigDecimal total_amount) {}

    public static void main(String[] arguments) throws InterruptedException {
        String servers = arguments[0], source = arguments[1], target = arguments[2];
        boolean durable = arguments[4].equals("durable");
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "kafka-streams-peer");
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, servers);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[5]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(
                StreamsConfig.PROCESSING_GUARANTEE_CONFIG,
                durable ? StreamsConfig.EXACTLY_ONCE_V2 : StreamsConfig.AT_LEAST_ONCE);
        settings.put(
                StreamsConfig.consumerPrefix(ConsumerConfig.ISOLATION_LEVEL_CONFIG),
                "read_committed");
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");

        StreamsBuilder builder = new StreamsBuilder();
        KStream<String, ObjectNode> rows =
                switch (arguments[3]) {
                    case "pass_through" -> passThrough(builder, source);
                    case "tumbling" -> tumbling(builder, source);
                    case "sessions" -> sessions(builder, source);
                    case "scoring" -> scoring(builder, source);
                    default -> throw new IllegalArgumentException(arguments[3]);
                };
        rows.to(target, Produced.with(Serdes.String(), json(ObjectNode.class)));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
        Thread.currentThread().join();
    }

    private static KStream<String, ObjectNode> passThrough(StreamsBuilder builder, String source) {
        return builder.stream(source, Consumed.with(Serdes.String(), json(ObjectNode.class)))
                .mapValues(
                        event ->
                                event.put(
                                        "day",
                                        event.get("event_timestamp").textValue().substring(0, 10)));
    }

    private static KStream<String, ObjectNode> tumbling(StreamsBuilder builder, String source) {
        return visits(builder, source)
                .groupByKey(Grouped.with(Serdes.String(), json(Visit.class)))
                .windowedBy(TimeWindows.ofSizeAndGrace(WINDOW, WAIT))
                .emitStrategy(EmitStrategy.onWindowClose())
                .count(Materialized.<String, Long, WindowStore<Bytes, byte[]>>as("counts")
                                .withRetention(KEPT))
                .toStream()
                .map(
                        (window, count) ->
                                KeyValue.pair(
                                        window.key(),
                                        JSON.createObjectNode()
                                                .put("user_id", window.key())
                                                .put("window_ms", window.window().start())
                                                .put("count", count)));
    }

    private static KStream<String, ObjectNode> sessions(StreamsBuilder builder, String source) {
        return visits(builder, source)
                .groupByKey(Grouped.with(Serdes.String(), json(Visit.class)))
                .windowedBy(SessionWindows.ofInactivityGapAndGrace(GAP, WAIT))
                .emitStrategy(EmitStrategy.onWindowClose())
                .count(Materialized.<String, Long, SessionStore<Bytes, byte[]>>as("counts")
                                .withRetention(KEPT))
                .toStream()
                .filter((window, count) -> count != null)
                .map(
                        (window, count) ->
                                KeyValue.pair(
                                        window.key(),
                                        JSON.createObjectNode()
                                                .put("user_id", window.key())
                                                .put("started_ms", window.window().start())
                                                .put("ended_ms", window.window().end())
                                                .put("count", count)));
    }

    private static KStream<String, ObjectNode> scoring(StreamsBuilder builder, String source) {
        builder.addStateStore(
                Stores.windowStoreBuilder(
                        Stores.persistentWindowStore("recent", WINDOW.plus(WAIT), WINDOW, true),
                        Serdes.String(),
                        Serdes.Long()));
        return builder.stream(
                        source,
                        Consumed.with(Serdes.String(), json(Payment.class))
                                .withTimestampExtractor(
                                        (message, time) ->
                                                milliseconds(
                                                        ((Payment) message.value())
                                                                .event_timestamp())))
                .process(Scoring::new, "recent");
    }

    private static final class Scoring
            extends ContextualProcessor<String, Payment, String, ObjectNode> {
        private WindowStore<String, Long> recent;

        @Override
        public void init(ProcessorContext<String, ObjectNode> context) {
            super.init(context);
            recent = context.getStateStore("recent");
        }

        @Override
        public void process(Record<String, Payment> record) {
            Payment payment = record.value();
            long now = record.timestamp();
            recent.put(
                    payment.user_id(), payment.total_amount().unscaledValue().longValue(), now);
            long count = 0, cents = 0;
            try (var entries =
                    recent.fetch(payment.user_id(), now - WINDOW.toMillis() + 1, now)) {
                while (entries.hasNext()) {
                    cents += entries.next().value;
                    count++;
                }
            }
            ObjectNode row =
                    JSON.createObjectNode()
                            .put("transaction_id", payment.transaction_id())
                            .put("user_id", payment.user_id())
                            .put("count", count)
                            .put("amount", BigDecimal.valueOf(cents, 2))
                            .put("flagged", count >= FLAGGED_FROM);
            context().forward(record.withValue(row));
        }
    }

    private static KStream<String, Visit> visits(StreamsBuilder builder, String source) {
        return builder.stream(
                source,
                Consumed.with(Serdes.String(), json(Visit.class))
                        .withTimestampExtractor(
                                (message, time) ->
                                        milliseconds(((Visit) message.value()).event_timestamp())));
    }

    private static long milliseconds(String timestamp) {
        return Instant.parse(timestamp).toEpochMilli();
    }

    private static <T> Serde<T> json(Class<T> type) {
        return Serdes.serdeFrom(
                (topic, value) -> {
                    try {
                        return value == null ? null : JSON.writeValueAsBytes(value);
                    } catch (IOException error) {
                        throw new UncheckedIOException(error);
                    }
                },
                (topic, bytes) -> {
                    try {
                        return bytes == null ? null : JSON.readValue(bytes, type);
                    } catch (IOException error) {
                        throw new UncheckedIOException(error);
                    }
                });
    }
}
