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
  started_at TIMESTAMP_LTZ(3),
  ended_at TIMESTAMP_LTZ(3),
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
  MIN(event_timestamp),
  MAX(event_timestamp),
  COUNT(*)
FROM TABLE(
  SESSION(TABLE events PARTITION BY user_id, DESCRIPTOR(event_timestamp), INTERVAL '30' MINUTE))
GROUP BY user_id, window_start, window_end;
