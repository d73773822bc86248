//! ListTransactions: the transactional ids coordinated here.

use regex_lite::{Regex, RegexBuilder};
use whimbrel_wire::{
    ErrorCode,
    messages::list_transactions::{Request, Response, TransactionState},
};

use crate::txn::{
    Coordinator,
    machine::{Record, State},
};

/// Most bytes of a compiled pattern: it comes from outside.
const PATTERN_BYTES: usize = 1 << 20;

/// `now_ms` is the wall clock, for the filter by duration.
pub fn handle(coordinator: &Coordinator, request: Request, now_ms: i64) -> Response {
    let pattern = match request.transactional_id_pattern.as_deref().map(compile) {
        None => None,
        Some(Ok(pattern)) => pattern,
        Some(Err(error_code)) => {
            return Response {
                error_code,
                ..Response::default()
            };
        }
    };
    let known = |name: &String| State::ALL.iter().any(|state| state.name() == name);
    let (states, unknown_state_filters): (Vec<_>, _) =
        request.state_filters.into_iter().partition(known);
    let filters_states = !states.is_empty() || !unknown_state_filters.is_empty();
    let wanted = |id: &str, record: &Record| {
        let lasts_ms = now_ms.saturating_sub(record.started_ms);
        let ids = &request.producer_id_filters;
        (!filters_states || states.iter().any(|state| state == record.state.name()))
            && (ids.is_empty() || ids.contains(&record.producer.id))
            && (request.duration_filter < 0
                || (record.started_ms >= 0 && lasts_ms > request.duration_filter))
            && pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
    };
    let (error_code, all) = coordinator.list();
    if error_code.is_error() {
        return Response {
            error_code,
            ..Response::default()
        };
    }
    let listed = all.into_iter().filter(|(id, record)| wanted(id, record));
    let transaction_states = listed.map(|(transactional_id, record)| TransactionState {
        transactional_id,
        producer_id: record.producer.id,
        transaction_state: record.state.name().to_owned(),
    });
    Response {
        throttle_time_ms: 0,
        error_code: ErrorCode::NONE,
        transaction_states: transaction_states.collect(),
        unknown_state_filters,
    }
}

/// A pattern has to match the whole id. An empty one matches everything.
fn compile(pattern: &str) -> Result<Option<Regex>, ErrorCode> {
    if pattern.is_empty() {
        return Ok(None);
    }
    RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(PATTERN_BYTES)
        .build()
        .map(Some)
        .map_err(|_| ErrorCode::INVALID_REGULAR_EXPRESSION)
}
