#!/bin/sh
# A class of librdkafka's tests, by the name of Kafka's own script, on the jars that peers/fetch.sh fetched.
exec java -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$CLASSPATH:$WHIMBREL_KAFKA_LIBS/*" "$@"
