//! A Kafka client of a few lines: one request, one answer.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use whimbrel_runtime::Clock;
use whimbrel_wire::{
    BatchBuilder, Batches, Budget, Decoder, ErrorCode, Message, RequestHeader,
    frame::{decode_response_header, encode_request_frame},
    messages::{
        Request, create_topics, delete_records,
        fetch::{self, FetchPartition, FetchTopic},
        list_offsets, metadata,
        produce::{self, PartitionProduceData, PartitionProduceResponse, TopicProduceData},
    },
};

use crate::fleet::eventually;

pub struct Client {
    pub stream: TcpStream,
    to: Option<SocketAddr>,
    correlation_id: i32,
}

impl Client {
    pub async fn connect(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect(to).await.unwrap())
    }

    pub fn over(stream: TcpStream) -> Self {
        Self {
            to: stream.peer_addr().ok(),
            stream,
            correlation_id: 0,
        }
    }

    /// After the broker closed: a home without a lease does that to those whose writes it refused.
    pub async fn reconnect(&mut self) {
        self.stream = TcpStream::connect(self.to.unwrap()).await.unwrap();
    }

    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.try_send(version, request).await.unwrap()
    }

    pub async fn try_send<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> std::io::Result<i32> {
        self.correlation_id += 1;
        let header = RequestHeader {
            api_key: R::KEY,
            api_version: version,
            correlation_id: self.correlation_id,
            client_id: Some("test".into()),
        };
        for chunk in encode_request_frame(&header, request) {
            self.stream.write_all(&chunk).await?;
        }
        Ok(self.correlation_id)
    }

    pub async fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        self.try_receive::<R>(version).await.expect("an answer")
    }

    /// `None` when the broker closed.
    pub async fn try_receive<R: Request>(&mut self, version: i16) -> Option<(i32, R::Response)> {
        let frame = self.frame().await?;
        let budget = Budget::new(1 << 30);
        let mut input = Decoder::new(frame, budget);
        let correlation_id = decode_response_header(R::KEY, version, &mut input).unwrap();
        let response = R::Response::decode(version, &mut input).unwrap();
        input.finish().unwrap();
        Some((correlation_id, response))
    }

    pub async fn call<R: Request>(&mut self, version: i16, request: R) -> R::Response {
        let sent = self.send(version, &request).await;
        let (answered, response) = self.receive::<R>(version).await;
        assert_eq!(sent, answered);
        response
    }

    /// `None` when the broker closed.
    pub async fn frame(&mut self) -> Option<Bytes> {
        frame_from(&mut self.stream).await
    }

    pub async fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> ErrorCode {
        self.create_topic_of(name, partitions, 1, configs).await
    }

    pub async fn create_topic_of(
        &mut self,
        name: &str,
        partitions: i32,
        replication_factor: i16,
        configs: &[(&str, &str)],
    ) -> ErrorCode {
        let config = |(name, value): &(&str, &str)| create_topics::CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
        };
        let topic = create_topics::CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor,
            configs: configs.iter().map(config).collect(),
            ..create_topics::CreatableTopic::default()
        };
        let request = create_topics::Request {
            topics: vec![topic],
            timeout_ms: 10_000,
            ..create_topics::Request::default()
        };
        self.call(7, request).await.topics[0].error_code
    }

    pub async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        records: Bytes,
    ) -> PartitionProduceResponse {
        let mut response = self
            .call(10, produce_request(topic, partition, records, -1))
            .await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// Produces until the broker leads. On a busy machine it may lose its lease for a while, and refuses and closes then.
    pub async fn produce_ok(&mut self, topic: &str, partition: i32, records: Bytes) -> i64 {
        eventually("an ack", async || {
            let request = produce_request(topic, partition, records.clone(), -1);
            let sent = self.try_send(10, &request).await.is_ok();
            let answer = match sent {
                true => self.try_receive::<produce::Request>(10).await,
                false => None,
            };
            let Some((_, mut response)) = answer else {
                self.reconnect().await;
                return None;
            };
            let answer = response.responses.remove(0).partition_responses.remove(0);
            assert!(
                answer.error_code.is_none() || answer.error_code.is_retryable(),
                "{}",
                answer.error_code
            );
            answer.error_code.is_none().then_some(answer.base_offset)
        })
        .await
    }

    pub async fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_wait_ms: i32,
    ) -> fetch::PartitionData {
        let request = fetch_request(topic, partition, offset, max_wait_ms);
        let mut response = self.call(11, request).await;
        response.responses.remove(0).partitions.remove(0)
    }

    /// As [`Self::fetch`], at once and of a broker that may close because it has no lease just now.
    pub async fn try_fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Option<fetch::PartitionData> {
        let request = fetch_request(topic, partition, offset, 0);
        self.send(11, &request).await;
        let (_, mut response) = self.try_receive::<fetch::Request>(11).await?;
        Some(response.responses.remove(0).partitions.remove(0))
    }

    /// Two partitions from their beginning in one request; the second one's part.
    pub async fn fetch_both(
        &mut self,
        first: (&str, i32),
        second: (&str, i32),
        max_wait_ms: i32,
    ) -> fetch::PartitionData {
        let mut request = fetch_request(first.0, first.1, 0, max_wait_ms);
        request
            .topics
            .extend(fetch_request(second.0, second.1, 0, 0).topics);
        let mut response = self.call(11, request).await;
        response.responses.remove(1).partitions.remove(0)
    }

    /// The values of all records from `offset` to the high watermark.
    pub async fn consume(&mut self, topic: &str, partition: i32, mut offset: i64) -> Vec<String> {
        let mut values = Vec::new();
        loop {
            let data = eventually("a leader", async || {
                let data = self.fetch(topic, partition, offset, 0).await;
                (data.error_code != ErrorCode::NOT_LEADER_OR_FOLLOWER).then_some(data)
            })
            .await;
            assert_eq!(data.error_code, ErrorCode::NONE);
            if offset >= data.high_watermark {
                return values;
            }
            for batch in Batches::new(data.records.unwrap()).map(Result::unwrap) {
                batch.verify_crc().unwrap();
                offset = batch.header.next_offset();
                for record in
                    whimbrel_wire::record::records(&batch, whimbrel_wire::codec::Limits::default())
                        .unwrap()
                {
                    values
                        .push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
                }
            }
        }
    }

    pub async fn offset_at(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> list_offsets::ListOffsetsPartitionResponse {
        self.offset_seen(topic, partition, timestamp, 0).await
    }

    /// What a reader of this isolation level is told.
    pub async fn offset_seen(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
        isolation_level: i8,
    ) -> list_offsets::ListOffsetsPartitionResponse {
        let partition = list_offsets::ListOffsetsPartition {
            partition_index: partition,
            timestamp,
            ..list_offsets::ListOffsetsPartition::default()
        };
        let topic = list_offsets::ListOffsetsTopic {
            name: topic.into(),
            partitions: vec![partition],
        };
        let request = list_offsets::Request {
            replica_id: -1,
            isolation_level,
            topics: vec![topic],
            ..list_offsets::Request::default()
        };
        self.call(11, request)
            .await
            .topics
            .remove(0)
            .partitions
            .remove(0)
    }

    pub async fn delete_records(
        &mut self,
        topic: &str,
        partition_index: i32,
        offset: i64,
    ) -> ErrorCode {
        let partitions = vec![delete_records::DeleteRecordsPartition {
            partition_index,
            offset,
        }];
        let topics = vec![delete_records::DeleteRecordsTopic {
            name: topic.into(),
            partitions,
        }];
        let request = delete_records::Request {
            topics,
            timeout_ms: 10_000,
        };
        self.call(2, request).await.topics[0].partitions[0].error_code
    }

    pub async fn metadata(&mut self, topic: &str) -> metadata::Response {
        let topic = metadata::MetadataRequestTopic {
            name: Some(topic.into()),
            ..metadata::MetadataRequestTopic::default()
        };
        self.call(
            12,
            metadata::Request {
                topics: Some(vec![topic]),
                ..metadata::Request::default()
            },
        )
        .await
    }
}

/// The next frame without its length; `None` at the end.
pub async fn frame_from(stream: &mut (impl AsyncRead + Unpin)) -> Option<Bytes> {
    let length = stream.read_u32().await.ok()?;
    let mut frame = vec![0; length as usize];
    stream.read_exact(&mut frame).await.ok()?;
    Some(frame.into())
}

pub fn produce_request(topic: &str, index: i32, records: Bytes, acks: i16) -> produce::Request {
    let partition_data = vec![PartitionProduceData {
        index,
        records: Some(records),
    }];
    let topic_data = vec![TopicProduceData {
        name: topic.into(),
        partition_data,
        ..TopicProduceData::default()
    }];
    produce::Request {
        acks,
        timeout_ms: 5_000,
        topic_data,
        ..produce::Request::default()
    }
}

pub fn fetch_request(
    topic: &str,
    partition: i32,
    fetch_offset: i64,
    max_wait_ms: i32,
) -> fetch::Request {
    let partition = FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topics = vec![FetchTopic {
        topic: topic.into(),
        partitions: vec![partition],
        ..FetchTopic::default()
    }];
    fetch::Request {
        max_wait_ms,
        min_bytes: 1,
        topics,
        ..fetch::Request::default()
    }
}

pub fn batch(values: &[&str]) -> Bytes {
    build(BatchBuilder::new(0), values)
}

pub fn idempotent(producer_id: i64, sequence: i32, values: &[&str]) -> Bytes {
    build(
        BatchBuilder::new(0).producer(producer_id, 0, sequence),
        values,
    )
}

/// Records of now: those of long ago would be retention's.
fn build(mut builder: BatchBuilder, values: &[&str]) -> Bytes {
    let now_ms = Clock::system().wall_ms();
    for value in values {
        builder
            .add(now_ms, None, Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder.finish().unwrap()
}
