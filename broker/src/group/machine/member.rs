//! A member of a group, and the little of its metadata that the coordinator reads.

use bytes::{Buf, Bytes};
use whimbrel_wire::ErrorCode;

use super::{Effect, JoinReply, MemberRecord, SyncReply, Token};

/// A protocol a member offers, with what it says about itself under it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protocol {
    pub name: String,
    pub metadata: Bytes,
}

/// A member.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// In order of preference.
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
    pub(super) awaiting_join: Option<Token>,
    pub(super) awaiting_sync: Option<Token>,
    /// Its first join has not been answered yet.
    pub(super) is_new: bool,
    /// When its session ends (monotone ms).
    pub(super) deadline_ms: i64,
    /// Since it was last heard it was given time to be heard once more.
    pub(super) was_spared: bool,
}

impl Member {
    pub(super) fn restore(stored: MemberRecord, protocol: &str, now_ms: i64) -> Self {
        Self {
            id: stored.member_id,
            instance_id: stored.instance_id,
            client_id: stored.client_id,
            client_host: stored.client_host,
            rebalance_timeout_ms: stored.rebalance_timeout_ms,
            session_timeout_ms: stored.session_timeout_ms,
            protocols: vec![Protocol {
                name: protocol.to_owned(),
                metadata: stored.subscription,
            }],
            assignment: stored.assignment,
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
            deadline_ms: now_ms.saturating_add(i64::from(stored.session_timeout_ms)),
            was_spared: false,
        }
    }

    pub(super) fn record(&self, protocol: &str, assignment: Bytes) -> MemberRecord {
        MemberRecord {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol).unwrap_or_default(),
            assignment,
        }
    }

    /// What the member says under this protocol.
    #[must_use]
    pub fn metadata(&self, protocol: &str) -> Option<Bytes> {
        self.protocols
            .iter()
            .find(|p| p.name == protocol)
            .map(|p| p.metadata.clone())
    }

    pub(super) fn offers(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|p| p.name == protocol)
    }

    /// When its session ends, if it can end now: who is parked here lives by definition, unless it is new.
    pub(super) fn expires_at_ms(&self) -> Option<i64> {
        let parked = self.awaiting_join.is_some() || self.awaiting_sync.is_some();
        (self.is_new || !parked).then_some(self.deadline_ms)
    }

    /// Answers what is parked here with an error.
    pub(super) fn answer(&mut self, id: &str, error: ErrorCode, out: &mut Vec<Effect>) {
        if let Some(token) = self.awaiting_join.take() {
            out.push(Effect::Joined {
                token,
                reply: JoinReply::failed(error, id),
            });
        }
        self.answer_sync(error, out);
    }

    pub(super) fn answer_sync(&mut self, error: ErrorCode, out: &mut Vec<Effect>) {
        if let Some(token) = self.awaiting_sync.take() {
            out.push(Effect::Synced {
                token,
                reply: SyncReply {
                    error,
                    ..SyncReply::default()
                },
            });
        }
    }
}

/// The topics of a `ConsumerProtocolSubscription` (any version: i16 version, then an array of strings);
/// none if it cannot be read.
pub(super) fn subscribed_topics(metadata: &Bytes) -> Option<Vec<String>> {
    let mut input = metadata.clone();
    input.try_get_i16().ok()?;
    let count = usize::try_from(input.try_get_i32().ok()?).ok()?;
    if count > input.remaining() / 2 {
        return None;
    }
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let len = usize::try_from(input.try_get_i16().ok()?).ok()?;
        if len > input.remaining() {
            return None;
        }
        topics.push(String::from_utf8(input.split_to(len).to_vec()).ok()?);
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn topics_are_read_from_a_subscription() {
        let bytes =
            Bytes::from_static(b"\x00\x01\x00\x00\x00\x02\x00\x01a\x00\x02bc\xff\xff\xff\xff");
        assert_eq!(
            subscribed_topics(&bytes),
            Some(vec!["a".to_owned(), "bc".to_owned()])
        );
        assert_eq!(
            subscribed_topics(&Bytes::from_static(b"\x00\x01\x7f\xff\xff\xff")),
            None
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_subscription_or_none(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = subscribed_topics(&Bytes::from(bytes));
        }
    }
}
