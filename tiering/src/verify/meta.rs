//! What describes the fleet, against the head that names it.

use super::{Budget, Problem, Report, Verifier};
use crate::{
    format::{FormatError, Key},
    meta::{Context, Head, Kept, MetaError, read_document},
};

impl Verifier {
    /// The newest document is read, of older ones that they are there and as long as the head says.
    pub(super) async fn look_at_meta(&self, budget: &mut Budget, report: &mut Report) {
        let Some(meta) = &self.meta else { return };
        if !budget.pay(0).await {
            return;
        }
        let head = match meta.find().await {
            Ok(Some((head, _))) => head,
            // A daemon that began just now has not written any.
            Ok(None) | Err(MetaError::Store(_)) => {
                report.undecided += 1;
                return;
            }
            Err(error) => return report.add(problem(&self.keys.meta_head(), &error)),
        };
        let newest = head.newest().copied();
        for kept in &head.documents {
            let is_newest = newest.as_ref() == Some(kept);
            if !budget
                .pay(if is_newest { kept.length.into() } else { 0 })
                .await
            {
                return;
            }
            let looked = if is_newest {
                let read = read_document(&*self.store, &self.keys, meta.whose(), kept).await;
                read.map(drop)
            } else {
                self.look_at_size(kept).await
            };
            report.documents += 1;
            match looked {
                Ok(()) => {}
                Err(MetaError::Store(error)) if !error.is_not_found() => report.undecided += 1,
                Err(_) if is_dropped(meta, &head, kept).await => {}
                Err(error) => report.add(problem(&self.keys.meta(&kept.name), &error)),
            }
        }
    }

    async fn look_at_size(&self, kept: &Kept) -> Result<(), MetaError> {
        let key = self.keys.meta(&kept.name);
        let size = self.store.head(&key).await.map_err(MetaError::Store)?.size;
        if size == u64::from(kept.length) {
            return Ok(());
        }
        let reason = format_args!("{size} bytes instead of {}", kept.length);
        Err(FormatError::malformed("document", reason).into())
    }
}

/// The writer may have let go of it since the head was read. A head that cannot be read now decides nothing.
async fn is_dropped(meta: &Context, before: &Head, kept: &Kept) -> bool {
    match meta.find().await {
        Ok(Some((now, _))) => now.stamp != before.stamp && !now.names(&kept.name),
        _ => false,
    }
}

fn problem(key: &Key, error: &MetaError) -> Problem {
    Problem {
        code: "WB-322",
        topic: String::new(),
        partition: -1,
        from_offset: -1,
        to_offset: -1,
        object: key.to_string(),
        what: error.to_string(),
    }
}
