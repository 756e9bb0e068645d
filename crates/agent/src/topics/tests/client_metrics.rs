//! Settings of client metrics subscriptions.

use super::*;
use crate::topics::{Alteration, AlterationOp, ConfigSource};

async fn alter(
    topics: &Topics,
    metadata: &Metadata,
    name: &str,
    settings: &[(&str, &str)],
) -> Result<(), ErrorCode> {
    let set = |(name, value): &(&str, &str)| Alteration {
        name: (*name).to_owned(),
        op: AlterationOp::Set,
        value: Some((*value).to_owned()),
    };
    let alterations: Vec<_> = settings.iter().map(set).collect();
    let done = topics.alter_client_metrics(metadata, name, &alterations, false, false);
    done.await.map_err(|refusal| refusal.code)
}

#[tokio::test]
async fn a_subscription_is_kept_and_shown() {
    let (topics, metadata) = (topics(&[]), metadata().await);
    let settings = [
        ("interval.ms", "60000"),
        ("match", "client_id=app-.*, client_source_port=9[0-9]+"),
    ];
    assert_eq!(alter(&topics, &metadata, "all", &settings).await, Ok(()));
    let shown = metadata.read(|state| topics.describe_client_metrics(state, "all", None));
    let shown: Vec<_> = shown
        .iter()
        .map(|config| {
            (
                config.definition.name,
                config.value.as_deref(),
                config.source,
            )
        })
        .collect();
    let expected = [
        ("interval.ms", Some("60000"), ConfigSource::ClientMetrics),
        (
            "match",
            Some("client_id=app-.*, client_source_port=9[0-9]+"),
            ConfigSource::ClientMetrics,
        ),
        ("metrics", Some(""), ConfigSource::Default),
    ];
    assert_eq!(shown, expected);
    let names = |state: &State| state.client_metrics().count();
    assert_eq!(metadata.read(names), 1);
}

#[tokio::test]
async fn what_is_no_subscription_is_refused() {
    let (topics, metadata) = (topics(&[]), metadata().await);
    let cases = [
        ("", ("metrics", ""), ErrorCode::InvalidRequest),
        ("all", ("interval.ms", "99"), ErrorCode::InvalidRequest),
        ("all", ("retention.ms", "1"), ErrorCode::InvalidRequest),
        ("all", ("match", "client_id"), ErrorCode::InvalidConfig),
        ("all", ("match", "colour=red"), ErrorCode::InvalidConfig),
        ("all", ("match", "client_id=["), ErrorCode::InvalidConfig),
    ];
    for (name, setting, code) in cases {
        let refused = alter(&topics, &metadata, name, &[setting]).await;
        assert_eq!(refused, Err(code), "{setting:?}");
    }
    assert_eq!(metadata.read(|state| state.client_metrics().count()), 0);
}
