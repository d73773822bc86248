//! What a caller may do: one place per API, asked before its handler touches anything.
//!
//! A guard takes out of the request what may not be done and says how the answer tells it, or refuses the request as
//! a whole. Which operation on which resource an API asks for is Kafka's table. Fetch alone is asked elsewhere too:
//! its sessions remember what this request does not name (`fetch::plan`).

mod cluster;
mod configs;
mod groups;
mod listed;
mod rights;
#[cfg(test)]
mod tests;
mod topics;
mod transactions;

use std::sync::Arc;

use uuid::Uuid;
use whimbrel_fleet::acl::{Operation, ResourceType};
use whimbrel_wire::{ErrorCode, messages::Request};

use crate::{auth::Caller, catalog::Catalog};

pub(crate) use rights::{Inscribe, Rights};

/// A request that says what it takes.
pub(crate) trait Guarded: Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response>;

    /// How the answer tells what its reader may do, if that is wanted.
    fn rights(&self, _version: i16) -> Option<Inscribe<Self::Response>> {
        None
    }
}

/// What is told of what was taken out.
type Tell<R> = Box<dyn FnOnce(&mut R) + Send>;

/// What becomes of a request.
pub(crate) enum Verdict<R> {
    Granted,
    /// Nothing of it is done; this is the answer.
    Refused(R),
    /// What is left of it is done; the rest is told in the answer.
    Partly(Tell<R>),
}

impl<R> Verdict<R> {
    pub fn tell(self, response: &mut R) {
        if let Self::Partly(tell) = self {
            tell(response);
        }
    }
}

/// Who asks, and the list that decides.
pub(crate) struct Ask {
    pub caller: Arc<Caller>,
    pub catalog: Arc<Catalog>,
    pub version: i16,
}

impl Ask {
    fn can(&self, operation: Operation, resource: ResourceType, name: &str) -> bool {
        self.caller
            .can(&self.catalog.view, operation, resource, name)
    }

    fn topic(&self, operation: Operation, name: &str) -> Result<(), ErrorCode> {
        allowed(
            self.can(operation, ResourceType::Topic, name),
            ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        )
    }

    /// A topic by the name or, from a version on, the id of a request. One that is not known by now is refused here, so
    /// that nobody gets at it in the moment it is created.
    fn topic_of(
        &self,
        operation: Operation,
        (name, id): (&str, Uuid),
        first_by_id: i16,
    ) -> Result<(), ErrorCode> {
        if self.version < first_by_id {
            return self.topic(operation, name);
        }
        let topic = self.catalog.topic_by_id(id);
        let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
        self.topic(operation, &topic.name)
    }

    fn group(&self, operation: Operation, name: &str) -> Result<(), ErrorCode> {
        allowed(
            self.can(operation, ResourceType::Group, name),
            ErrorCode::GROUP_AUTHORIZATION_FAILED,
        )
    }

    fn transactional_id(&self, operation: Operation, name: &str) -> Result<(), ErrorCode> {
        allowed(
            self.can(operation, ResourceType::TransactionalId, name),
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        )
    }

    fn cluster(&self, operation: Operation) -> Result<(), ErrorCode> {
        allowed(
            self.caller.can_cluster(&self.catalog.view, operation),
            ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
        )
    }
}

fn allowed(is_allowed: bool, error: ErrorCode) -> Result<(), ErrorCode> {
    if is_allowed { Ok(()) } else { Err(error) }
}

/// Refused as a whole where the caller may not.
fn whole<R>(may: Result<(), ErrorCode>, refused: impl FnOnce(ErrorCode) -> R) -> Verdict<R> {
    match may {
        Ok(()) => Verdict::Granted,
        Err(error) => Verdict::Refused(refused(error)),
    }
}

/// Takes out of a list what the caller may not do. With nothing left the handler is not asked: an empty list means
/// everything to some.
fn sift<R: Default, T: Send + 'static>(
    list: &mut Vec<T>,
    may: impl Fn(&T) -> Result<(), ErrorCode>,
    tell: impl FnOnce(&mut R, Vec<(T, ErrorCode)>) + Send + 'static,
) -> Verdict<R> {
    let (mut kept, mut refused) = (Vec::with_capacity(list.len()), Vec::new());
    for item in std::mem::take(list) {
        match may(&item) {
            Ok(()) => kept.push(item),
            Err(error) => refused.push((item, error)),
        }
    }
    *list = kept;
    if refused.is_empty() {
        return Verdict::Granted;
    }
    if list.is_empty() {
        let mut response = R::default();
        tell(&mut response, refused);
        return Verdict::Refused(response);
    }
    Verdict::Partly(Box::new(move |response| tell(response, refused)))
}
