//! PRODUCER_FENCED, which older clients know as INVALID_PRODUCER_EPOCH (KIP-588).

use alluvium_types::ErrorCode;

/// The code as a client knows it that does or does not know `PRODUCER_FENCED`.
pub(super) const fn shown(code: ErrorCode, knows_fenced: bool) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced if !knows_fenced => ErrorCode::InvalidProducerEpoch,
        code => code,
    }
}
