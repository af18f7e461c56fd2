CREATE TABLE events (
  transaction_id STRING,
  user_id STRING,
  event_timestamp TIMESTAMP_LTZ(3),
  total_amount DECIMAL(12, 2),
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
  transaction_id STRING,
  user_id STRING,
  `count` BIGINT,
  amount DECIMAL(12, 2),
  flagged BOOLEAN
) WITH (
  'connector' = 'kafka',
  'topic' = '${output}',
  'properties.bootstrap.servers' = '${servers}',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  ${guarantee}
);

INSERT INTO answers
SELECT transaction_id, user_id, payments, amount, payments >= 4
FROM (
  SELECT
    transaction_id,
    user_id,
    COUNT(*) OVER recent AS payments,
    SUM(total_amount) OVER recent AS amount
  FROM events
  WINDOW recent AS (
    PARTITION BY user_id
    ORDER BY event_timestamp
    RANGE BETWEEN INTERVAL '10' MINUTE PRECEDING AND CURRENT ROW));
