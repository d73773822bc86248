//! One connection to one broker, whoever leads: it writes where it was told to and never looks for a better
//! place. This is the client that a fence has to hold against.

use std::{io, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use whimbrel_fleet::HostPort;
use whimbrel_runtime::Clock;
use whimbrel_wire::{
    ApiKey, BatchBuilder, Budget, Decoder, ErrorCode, Message, RequestHeader,
    frame::{decode_response_header, encode_request_frame, frame_length},
    messages::produce,
};

use super::encode;
use crate::history::{Key, Outcome, Recorder, Send, Value};

/// Names topics by name and has no tagged fields: the simplest that every broker speaks.
const VERSION: i16 = 8;
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    #[error("{at}: {source}")]
    Io { at: HostPort, source: io::Error },
    #[error("{at} did not answer in {ms} ms")]
    Late { at: HostPort, ms: u128 },
    #[error("{at}: unreadable answer: {reason}")]
    Answer { at: HostPort, reason: String },
    #[error("the record cannot be built: {0}")]
    Build(String),
}

/// A request whose answer has not been read.
#[derive(Debug)]
pub struct Asked {
    correlation_id: i32,
    key: Key,
    value: Value,
    invoked_ns: u64,
}

#[derive(Debug)]
pub struct RawClient {
    at: HostPort,
    region: String,
    stream: TcpStream,
    next: i32,
    recorder: Recorder,
    clock: Clock,
}

impl RawClient {
    pub async fn connect(
        at: &HostPort,
        region: &str,
        recorder: &Recorder,
        clock: &Clock,
    ) -> Result<Self, RawError> {
        let stream = TcpStream::connect((at.host.as_str(), at.port))
            .await
            .map_err(|source| RawError::Io {
                at: at.clone(),
                source,
            })?;
        Ok(Self {
            at: at.clone(),
            region: region.to_owned(),
            stream,
            next: 0,
            recorder: recorder.clone(),
            clock: clock.clone(),
        })
    }

    /// Writes a record and its outcome into the history.
    pub async fn produce(&mut self, key: &Key, deadline: Duration) -> Result<Outcome, RawError> {
        let asked = self.ask(key).await?;
        self.answer(asked, deadline).await
    }

    /// Sends the request and returns; the broker may be paused.
    pub async fn ask(&mut self, key: &Key) -> Result<Asked, RawError> {
        let value = self.recorder.next_value();
        let invoked_ns = self.recorder.now_ns();
        self.next += 1;
        let asked = Asked {
            correlation_id: self.next,
            key: key.clone(),
            value,
            invoked_ns,
        };
        let frame = request(&asked, self.clock.wall_ms())?;
        for chunk in frame {
            if let Err(source) = self.stream.write_all(&chunk).await {
                let error = RawError::Io {
                    at: self.at.clone(),
                    source,
                };
                self.record(
                    &asked,
                    Outcome::Unknown {
                        why: error.to_string(),
                    },
                );
                return Err(error);
            }
        }
        Ok(asked)
    }

    /// Reads the answer to the oldest request that has none yet.
    pub async fn answer(&mut self, asked: Asked, deadline: Duration) -> Result<Outcome, RawError> {
        let clock = self.clock.clone();
        let outcome = match clock.within(deadline, self.read(&asked)).await {
            Some(outcome) => outcome,
            None => Err(RawError::Late {
                at: self.at.clone(),
                ms: deadline.as_millis(),
            }),
        };
        let recorded = outcome.as_ref().map_or_else(
            |error| Outcome::Unknown {
                why: error.to_string(),
            },
            Outcome::clone,
        );
        self.record(&asked, recorded);
        outcome
    }

    fn record(&self, asked: &Asked, outcome: Outcome) {
        self.recorder.send(Send {
            process: format!("raw-{}", self.region),
            region: Some(self.region.clone()),
            key: asked.key.clone(),
            value: asked.value,
            invoked_ns: asked.invoked_ns,
            completed_ns: self.recorder.now_ns(),
            outcome,
        });
    }

    async fn read(&mut self, asked: &Asked) -> Result<Outcome, RawError> {
        let at = self.at.clone();
        let io = |source| RawError::Io {
            at: at.clone(),
            source,
        };
        let wrong = |reason: String| RawError::Answer {
            at: at.clone(),
            reason,
        };
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).await.map_err(io)?;
        let mut body =
            vec![0; frame_length(prefix, MAX_ANSWER_BYTES).map_err(|e| wrong(e.to_string()))?];
        self.stream.read_exact(&mut body).await.map_err(io)?;
        let mut input = Decoder::new(Bytes::from(body), Budget::new(16 * MAX_ANSWER_BYTES));
        let id = decode_response_header(ApiKey::Produce, VERSION, &mut input)
            .map_err(|e| wrong(e.to_string()))?;
        if id != asked.correlation_id {
            return Err(wrong(format!(
                "it answers request {id}, not {}",
                asked.correlation_id
            )));
        }
        let response =
            produce::Response::decode(VERSION, &mut input).map_err(|e| wrong(e.to_string()))?;
        let partition = response
            .responses
            .iter()
            .flat_map(|t| &t.partition_responses)
            .next();
        let partition = partition.ok_or_else(|| wrong("it names no partition".to_owned()))?;
        Ok(judge(partition.error_code, partition.base_offset))
    }
}

/// NOT_LEADER_OR_FOLLOWER may come after the append, when the lease ended on the way: it proves nothing.
fn judge(error: ErrorCode, offset: i64) -> Outcome {
    match error {
        ErrorCode::NONE => Outcome::Acked { offset },
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::INVALID_TOPIC_EXCEPTION => {
            Outcome::Refused {
                why: error.name().to_owned(),
            }
        }
        other => Outcome::Unknown {
            why: other.name().to_owned(),
        },
    }
}

fn request(asked: &Asked, now_ms: i64) -> Result<Vec<Bytes>, RawError> {
    let mut batch = BatchBuilder::new(0);
    batch
        .add(now_ms, None, Some(encode(asked.value).as_bytes()), &[])
        .map_err(|e| RawError::Build(e.to_string()))?;
    let records = batch.finish().map_err(|e| RawError::Build(e.to_string()))?;
    let header = RequestHeader {
        api_key: ApiKey::Produce,
        api_version: VERSION,
        correlation_id: asked.correlation_id,
        client_id: Some("chaos-raw".to_owned()),
    };
    let partition = produce::PartitionProduceData {
        index: asked.key.partition,
        records: Some(records),
    };
    let topic = produce::TopicProduceData {
        name: asked.key.topic.clone(),
        partition_data: vec![partition],
        ..Default::default()
    };
    let message = produce::Request {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![topic],
        transactional_id: None,
    };
    Ok(encode_request_frame(&header, &message))
}
