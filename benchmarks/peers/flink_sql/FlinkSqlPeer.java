import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;

/**
 * Runs a workload's SQL in a mini cluster of one slot, in this process.
 *
 * <p>FlinkSqlPeer SERVERS INPUT OUTPUT FILE.sql durable|light DIRECTORY
 */
public final class FlinkSqlPeer {
    public static void main(String[] arguments) throws Exception {
        boolean durable = arguments[4].equals("durable");
        Configuration settings = new Configuration();
        settings.setString("parallelism.default", "1");
        settings.setString("taskmanager.numberOfTaskSlots", "1");
        settings.setString("table.local-time-zone", "UTC");
        if (durable) {
            settings.setString("execution.checkpointing.interval", "10 s");
            settings.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
            settings.setString(
                    "execution.checkpointing.dir", Path.of(arguments[5]).toUri().toString());
        }
        String sink =
                durable
                        ? "'sink.delivery-guarantee' = 'exactly-once',"
                                + " 'sink.transactional-id-prefix' = 'flink-sql-peer',"
                                + " 'properties.transaction.timeout.ms' = '600000'"
                        : "'sink.delivery-guarantee' = 'none'";
        String sql =
                Files.readString(Path.of(arguments[3]))
                        .replace("${servers}", arguments[0])
                        .replace("${input}", arguments[1])
                        .replace("${output}", arguments[2])
                        .replace("${guarantee}", sink);
        TableEnvironment tables =
                TableEnvironment.create(
                        EnvironmentSettings.newInstance()
                                .inStreamingMode()
                                .withConfiguration(settings)
                                .build());
        TableResult last = null;
        for (String statement : sql.split(";\\s*\n")) {
            if (!statement.isBlank()) {
                last = tables.executeSql(statement);
            }
        }
        last.await();
    }
}
