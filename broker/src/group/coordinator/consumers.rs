//! The groups of the consumer protocol in a partition, and what the two protocols have to do with each other.
//!
//! A group belongs to one protocol. Without members it passes to the other when somebody joins by that; with members,
//! see [`super::mixed`].

use tokio::sync::oneshot;
use whimbrel_wire::ErrorCode;

use super::{
    super::{
        consumer::{self, Assignment, Change, Heartbeat, Member, Refusal, Reply},
        machine::{self, Now, store_error},
        offsets::TopicPartition,
        records::Entry,
        store::Topics,
    },
    Coordinator,
    shard::{Contents, Shard},
    work::{Then, Work},
};

/// A group of the consumer protocol with its members.
#[derive(Clone, Debug)]
pub struct ConsumerDescription {
    pub state: consumer::State,
    pub epoch: i32,
    pub target_epoch: i32,
    pub assignor: &'static str,
    /// Each with what it is to have.
    pub members: Vec<(Member, Assignment)>,
}

impl Coordinator {
    /// A ConsumerGroupHeartbeat; answered when what it says is durable.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn consumer_heartbeat(
        &self,
        group: &str,
        request: Heartbeat,
    ) -> Result<Reply, Refusal> {
        let shard = self.active(group, true)?;
        let waiting = shard.consumer_heartbeat(group, request, self.topics(), self.now())?;
        waiting
            .await
            .unwrap_or_else(|_| Err(ErrorCode::NOT_COORDINATOR.into()))
    }

    /// A group of the consumer protocol; none if there is no such group.
    ///
    /// # Errors
    /// Kafka's code.
    pub fn describe_consumer(&self, group: &str) -> Result<Option<ConsumerDescription>, ErrorCode> {
        let shard = self.active(group, true)?;
        shard.overtake(group, self.topics(), self.now());
        let state = shard.state.lock();
        Ok(state.consumers.get(group).map(|group| ConsumerDescription {
            state: group.state(),
            epoch: group.epoch(),
            target_epoch: group.target_epoch(),
            assignor: group.assignor(),
            members: group
                .members()
                .map(|member| (member.clone(), group.target(&member.id)))
                .collect(),
        }))
    }

    /// Whether positions of the group may be read under these credentials; only members of the consumer protocol have
    /// to show any.
    ///
    /// # Errors
    /// Kafka's code.
    pub fn check_fetch(
        &self,
        group: &str,
        member_id: Option<&str>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        let shard = self.active(group, false)?;
        let state = shard.state.lock();
        match state.consumers.get(group) {
            Some(group) => group.check_fetch(member_id, epoch),
            None => Ok(()),
        }
    }

    /// Removes committed positions, but not of topics that the group's members read: one code for each.
    ///
    /// # Errors
    /// GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP for members that are no consumers, or why it cannot be written.
    pub async fn delete_offsets(
        &self,
        group: &str,
        places: Vec<TopicPartition>,
    ) -> Result<Vec<(TopicPartition, ErrorCode)>, ErrorCode> {
        let shard = self.active(group, true)?;
        shard.overtake(group, self.topics(), self.now());
        let (free, read) = shard.unread(group, places)?;
        let outcome = if free.is_empty() {
            Ok(())
        } else {
            let (group, places) = (group.to_owned(), free.clone());
            shard
                .enqueue(|reply| Work::OffsetDelete {
                    group,
                    places,
                    reply,
                })
                .await
        };
        outcome.map_err(store_error)?;
        let removed = free.into_iter().map(|at| (at, ErrorCode::NONE));
        let kept = read
            .into_iter()
            .map(|at| (at, ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC));
        Ok(removed.chain(kept).collect())
    }
}

/// The answer to a heartbeat, once it is durable.
type Waiting = oneshot::Receiver<Result<Reply, Refusal>>;

impl Shard {
    fn consumer_heartbeat(
        &self,
        id: &str,
        request: Heartbeat,
        topics: &dyn Topics,
        now: Now,
    ) -> Result<Waiting, Refusal> {
        let mut state = self.state.lock();
        if !state.active {
            return Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS.into());
        }
        if state.queue.len() >= self.options.max_queued {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE.into());
        }
        if request.epoch == 0 {
            if let Some(taken) = self.take_over(&mut state, id, &request, topics, now) {
                let (answer, entries) = taken?;
                let (reply, waiting) = oneshot::channel();
                let then = Then::Heartbeat { answer, reply };
                state.queue.push_back(Work::Records { entries, then });
                self.stirred.notify_one();
                return Ok(waiting);
            }
            self.make_consumer_room(&mut state, id);
            state
                .consumers
                .entry(id.to_owned())
                .or_insert_with(|| consumer::Group::new(id, self.rules_of(id, topics)));
        }
        let Some(group) = state.consumers.get_mut(id) else {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID.into());
        };
        group.obey(self.rules_of(id, topics));
        let outcome = group.heartbeat(now, request, topics);
        if group.epoch() == 0 {
            // Nobody came in.
            state.consumers.remove(id);
        }
        let (answer, changes) = outcome?;
        let (reply, waiting) = oneshot::channel();
        // Without changes as well: what the answer rests on may still be on its way to the log.
        self.queue_changes(&mut state, id, changes, Then::Heartbeat { answer, reply });
        self.hand_back(&mut state, id, topics, now);
        Ok(waiting)
    }

    /// What the group allows by its own configs and the broker's.
    pub(super) fn rules_of(&self, id: &str, topics: &dyn Topics) -> consumer::Rules {
        self.options.consumer.at(topics.pace(id))
    }

    pub(super) fn queue_changes(
        &self,
        state: &mut Contents,
        id: &str,
        changes: Vec<Change>,
        then: Then,
    ) {
        let entries = changes
            .into_iter()
            .map(|change| Entry::Consumer {
                group: id.to_owned(),
                change,
            })
            .collect();
        state.queue.push_back(Work::Records { entries, then });
        self.stirred.notify_one();
    }

    /// Whether a join by the classic protocol makes a group of that; a group of the other without members makes place.
    pub(super) fn make_room(&self, state: &mut Contents, id: &str) -> bool {
        let Some(group) = state.consumers.get(id) else {
            return true;
        };
        if group.state() != consumer::State::Empty {
            return false;
        }
        let changes = group.removal();
        state.consumers.remove(id);
        self.queue_changes(state, id, changes, Then::Nothing);
        true
    }

    /// The same the other way round; ids that were handed out and not used yet are good in the new group as well.
    fn make_consumer_room(&self, state: &mut Contents, id: &str) {
        if state.groups.remove(id).is_none() {
            return;
        }
        state.queue.push_back(Work::Records {
            entries: vec![Entry::Group {
                group: id.to_owned(),
                record: None,
            }],
            then: Then::Nothing,
        });
        self.stirred.notify_one();
    }

    /// Which of these places no member reads, and which one does.
    fn unread(
        &self,
        id: &str,
        places: Vec<TopicPartition>,
    ) -> Result<(Vec<TopicPartition>, Vec<TopicPartition>), ErrorCode> {
        let state = self.state.lock();
        if let Some(group) = state.consumers.get(id) {
            return Ok(places
                .into_iter()
                .partition(|at| !group.subscribes(&at.topic)));
        }
        match state.groups.get(id) {
            None if !state.offsets.contains(id) => Err(ErrorCode::GROUP_ID_NOT_FOUND),
            Some(group)
                if group.state() != machine::State::Empty
                    && group.protocol_type() != Some("consumer") =>
            {
                Err(ErrorCode::NON_EMPTY_GROUP)
            }
            Some(group) => Ok(places
                .into_iter()
                .partition(|at| !group.subscribes(&at.topic))),
            None => Ok((places, Vec::new())),
        }
    }
}
