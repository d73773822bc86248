//! What the reader of an answer may do, told on request as bits (KIP-430).

use std::sync::Arc;

use whimbrel_fleet::acl::{CLUSTER, Operation, ResourceType, operations_of};

use super::Verdict;
use crate::{auth::Caller, catalog::Catalog};

/// Puts rights into an answer.
pub(crate) type Inscribe<R> = Box<dyn FnOnce(&mut R, &Rights) + Send>;

/// Who reads, and the list that decides.
pub(crate) struct Rights {
    /// `None` where nobody is asked who it is, and everybody may do everything.
    pub caller: Option<Arc<Caller>>,
    pub catalog: Arc<Catalog>,
}

impl Rights {
    fn can(&self, operation: Operation, resource: ResourceType, name: &str) -> bool {
        let view = &self.catalog.view;
        self.caller
            .as_ref()
            .is_none_or(|caller| caller.can(view, operation, resource, name))
    }

    /// The operations on a resource, as bits.
    pub fn on(&self, resource: ResourceType, name: &str) -> i32 {
        operations_of(resource)
            .iter()
            .filter(|operation| self.can(**operation, resource, name))
            .fold(0, |bits, operation| bits | (1 << operation.code()))
    }

    /// Those on the cluster, which who may not describe it is told nothing of.
    pub fn on_cluster(&self) -> i32 {
        if self.can(Operation::Describe, ResourceType::Cluster, CLUSTER) {
            self.on(ResourceType::Cluster, CLUSTER)
        } else {
            0
        }
    }
}

impl<R: 'static> Verdict<R> {
    /// The rights are put into what is answered, before what was refused is.
    pub fn inscribing(self, rights: Rights, inscribe: Inscribe<R>) -> Self {
        match self {
            Self::Refused(response) => Self::Refused(response),
            Self::Granted => Self::Partly(Box::new(move |response| inscribe(response, &rights))),
            Self::Partly(tell) => Self::Partly(Box::new(move |response| {
                inscribe(response, &rights);
                tell(response);
            })),
        }
    }
}
