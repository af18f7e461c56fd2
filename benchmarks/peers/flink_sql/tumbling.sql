CREATE TABLE events (
  user_id STRING,
  event_timestamp TIMESTAMP_LTZ(3),
  WATERMARK FOR event_timestamp AS event_timestamp - INTERVAL '30' MINUTE
) WITH (
  'connector' = 'kafka',
  'topic' = '${input}',
  'properties.bootstrap.servers' = '${servers}',
  'properties.group.id' = 'flink-sql-peer',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE answers (
  user_id STRING,
  window_start TIMESTAMP(3),
  `count` BIGINT
) WITH (
  'connector' = 'kafka',
  'topic' = '${output}',
  'properties.bootstrap.servers' = '${servers}',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  ${guarantee}
);

INSERT INTO answers
SELECT
  user_id,
  window_start,
  COUNT(*)
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(event_timestamp), INTERVAL '10' MINUTE))
GROUP BY user_id, window_start, window_end;
