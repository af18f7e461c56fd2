CREATE TABLE events (
  event_id STRING,
  event_type STRING,
  event_timestamp STRING,
  user_id STRING,
  device ROW<device_id STRING, user_agent STRING>,
  page_url STRING,
  product_id STRING,
  referrer STRING
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
  event_id STRING,
  event_type STRING,
  event_timestamp STRING,
  user_id STRING,
  device ROW<device_id STRING, user_agent STRING>,
  page_url STRING,
  product_id STRING,
  referrer STRING,
  `day` STRING
) WITH (
  'connector' = 'kafka',
  'topic' = '${output}',
  'properties.bootstrap.servers' = '${servers}',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  ${guarantee}
);

INSERT INTO answers
SELECT *, SUBSTRING(event_timestamp, 1, 10)
FROM events;
