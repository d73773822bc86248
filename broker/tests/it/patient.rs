//! A client as real ones are: sent elsewhere or cut off, it connects and asks again. It counts how often it had to.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use whimbrel_wire::{
    Budget, Decoder, ErrorCode, Message, Request,
    frame::decode_response_header,
    messages::{fetch::PartitionData, produce::PartitionProduceResponse},
};

use crate::{
    client::{Client, fetch_request, produce_request},
    fleet::eventually,
    raw::encoded,
};

pub struct Patient {
    to: SocketAddr,
    client: Option<Client>,
    /// Requests that had to be sent again.
    pub again: usize,
}

impl Patient {
    pub fn new(to: SocketAddr) -> Self {
        Self {
            to,
            client: None,
            again: 0,
        }
    }

    /// `None` when the connection ended instead.
    pub async fn ask<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(self.to).await,
        };
        let frame = encoded(version, Some("patient"), request);
        client.stream.write_all(&frame).await.ok()?;
        let answer = client.frame().await?;
        self.client = Some(client);
        let mut input = Decoder::new(answer, Budget::new(1 << 30));
        decode_response_header(R::KEY, version, &mut input).unwrap();
        Some(R::Response::decode(version, &mut input).unwrap())
    }

    /// The answer that is not about a coordinator that is loading or elsewhere.
    pub async fn settled<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        code: impl Fn(&R::Response) -> ErrorCode,
    ) -> R::Response {
        eventually("a coordinator", async || {
            let response = self.ask(version, request).await?;
            (!code(&response).is_retryable()).then_some(response)
        })
        .await
    }

    /// The broker's verdict on the batch: not that it leads no more, nor that it could not say in time.
    pub async fn produce(&mut self, topic: &str, records: Bytes) -> PartitionProduceResponse {
        let request = produce_request(topic, 0, records, -1);
        let mut tries = 0;
        let answer = eventually("a verdict", async || {
            tries += 1;
            let mut response = self.ask(10, &request).await?;
            let answer = response.responses.remove(0).partition_responses.remove(0);
            let elsewhere = [
                ErrorCode::NOT_LEADER_OR_FOLLOWER,
                ErrorCode::REQUEST_TIMED_OUT,
            ];
            (!elsewhere.contains(&answer.error_code)).then_some(answer)
        })
        .await;
        self.again += tries - 1;
        answer
    }

    pub async fn fetch(&mut self, topic: &str, offset: i64) -> PartitionData {
        let request = fetch_request(topic, 0, offset, 100);
        let mut tries = 0;
        let data = eventually("records", async || {
            tries += 1;
            let mut response = self.ask(11, &request).await?;
            let data = response.responses.remove(0).partitions.remove(0);
            (data.error_code != ErrorCode::NOT_LEADER_OR_FOLLOWER).then_some(data)
        })
        .await;
        self.again += tries - 1;
        data
    }
}
