//! ListTransactions: the transactional ids that this agent coordinates (KIP-664, KIP-994). Clients ask every
//! agent.

use alluvium_metadata::{Transaction, TransactionStatus};
use alluvium_protocol::message;
use alluvium_protocol::messages::list_transactions_response::TransactionState;
use alluvium_protocol::messages::{ListTransactionsRequest, ListTransactionsResponse, StrBytes};
use alluvium_types::ErrorCode;
use regex::{Regex, RegexBuilder};

use super::RequestContext;
use super::describe_transactions::name;

/// How transactional ids can stand, in Kafka's words. The ones in between do not exist here.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

/// Most bytes that a compiled regular expression may have.
const PATTERN_BYTES: usize = 1 << 20;

/// Longest regular expression, in bytes.
const PATTERN_TEXT_BYTES: usize = 4096;

/// A pattern that must match a whole id (Kafka has RE2's syntax).
fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_TEXT_BYTES {
        return Err(format!("the pattern has {} bytes", pattern.len()));
    }
    RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(PATTERN_BYTES)
        .build()
        .map_err(|error| error.to_string())
}

pub(crate) async fn handle(
    context: &RequestContext,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    if context.agent.current().await.is_err() {
        return message!(ListTransactionsResponse {
            error_code: ErrorCode::CoordinatorNotAvailable.code()
        });
    }
    let pattern = request.transactional_id_pattern.as_deref();
    let pattern = match pattern.filter(|text| !text.is_empty()).map(compile) {
        None => None,
        Some(Ok(pattern)) => Some(pattern),
        Some(Err(error)) => {
            tracing::info!(%error, client = context.client_host, "ListTransactions refused");
            return message!(ListTransactionsResponse {
                error_code: ErrorCode::InvalidRegularExpression.code()
            });
        }
    };
    let is_known = |state: &StrBytes| STATES.contains(&state.as_str());
    let (known, unknown): (Vec<_>, Vec<_>) =
        request.state_filters.iter().cloned().partition(is_known);
    // Only unknown ones were asked for: nothing passes.
    let passes_nothing = known.is_empty() && !unknown.is_empty();
    let now = context.agent.clock.now();
    let passes = |transaction: &Transaction| {
        let of_producer = &request.producer_id_filters;
        let is_open = transaction.status == TransactionStatus::Ongoing;
        let duration = request.duration_filter;
        (known.is_empty()
            || known
                .iter()
                .any(|state| **state == *name(transaction.status)))
            && (of_producer.is_empty() || of_producer.contains(&transaction.producer.id))
            && (duration < 0 || is_open && now.saturating_sub(transaction.at) > duration)
    };
    let me = context.agent.id();
    let states = context.agent.metadata.read(|state| {
        let mine = state.transactions().filter(|(id, known)| {
            !passes_nothing
                && passes(known)
                && pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
                && state.coordinator_of(id) == Some(me)
        });
        let listed = mine.map(|(id, known)| {
            message!(TransactionState {
                transactional_id: id.into(),
                producer_id: known.producer.id,
                transaction_state: name(known.status).into(),
            })
        });
        listed.collect()
    });
    message!(ListTransactionsResponse {
        unknown_state_filters: unknown,
        transaction_states: states
    })
}
