#!/bin/sh
# Kafka's own script by the name under which librdkafka's tests call it, on the jars that peers/fetch.sh fetched.
exec java -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$WHIMBREL_KAFKA_LIBS/*" org.apache.kafka.tools.TopicCommand "$@"
