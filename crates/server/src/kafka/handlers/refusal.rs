//! The log line of a request, or a part of one, that was refused.

use alluvium_metadata::Refusal;

use super::RequestContext;

/// Says what was refused to whom, and why. `thing` is what the request was about.
pub(crate) fn log(context: &RequestContext, api: &'static str, thing: &str, refusal: &Refusal) {
    tracing::info!(
        api,
        thing,
        code = refusal.code.name(),
        reason = refusal.message,
        client_id = context.client_id,
        client_host = context.client_host,
        "refused"
    );
}
