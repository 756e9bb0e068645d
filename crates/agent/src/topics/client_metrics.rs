//! The settings of client metrics subscriptions (KIP-714). They are kept, and nobody is asked for metrics:
//! Kafka, too, collects none without a reporter that takes them.

use alluvium_cluster::Metadata;
use alluvium_metadata::{ConfigTarget, Refusal};
use alluvium_types::ErrorCode;
use regex::Regex;

use super::alter::{Alteration, NAME_BYTES, Target, decide_on};
use super::definition::{Definition, Rule, elements, int, list};
use super::reasons::NO_CLIENT_METRICS;
use super::settings::Values;
use super::{Topics, refuse};

/// The table, by name.
pub const CLIENT_METRICS_CONFIGS: &[Definition] = &[
    int("interval.ms", "300000")
        .rule(Rule::Between(100.0, 3_600_000.0))
        .doc("How often clients push their metrics, in milliseconds.")
        .no_effect(NO_CLIENT_METRICS),
    list("match", "")
        .doc("Which clients are meant: by client_id, client_instance_id, client_software_name, client_software_version, client_source_address or client_source_port, each with = and a regular expression.")
        .no_effect(NO_CLIENT_METRICS),
    list("metrics", "")
        .doc("The beginnings of the names of the metrics that are wanted.")
        .no_effect(NO_CLIENT_METRICS),
];

/// What a subscription may match clients by.
const SELECTORS: [&str; 6] = [
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

fn client_metrics_config(name: &str) -> Option<&'static Definition> {
    CLIENT_METRICS_CONFIGS
        .iter()
        .find(|definition| definition.name == name)
}

impl Topics {
    /// Alters the settings of a client metrics subscription.
    ///
    /// # Errors
    /// See [`Self::alter_topic`].
    pub async fn alter_client_metrics(
        &self,
        metadata: &Metadata,
        name: &str,
        alterations: &[Alteration],
        replace: bool,
        validate_only: bool,
    ) -> Result<(), Refusal> {
        if name.is_empty() || name.len() > NAME_BYTES {
            let message = format!("A subscription's name has 1 to {NAME_BYTES} bytes.");
            return Err(refuse(ErrorCode::InvalidRequest, message));
        }
        let default = |definition: &Definition| definition.default.unwrap_or_default().to_owned();
        let (changes, altered) = metadata.read(|state| {
            let none = Values::new();
            let target = Target {
                definition: client_metrics_config,
                current: state.client_metrics_configs(name).unwrap_or(&none),
                default: &default,
                code: ErrorCode::InvalidRequest,
                unknown: |name| format!("Unknown client metrics configuration: {name}"),
            };
            target.plan(alterations, replace)
        })?;
        let patterns = altered.get("match").map_or("", String::as_str);
        elements(patterns)
            .try_for_each(check_match)
            .map_err(|message| refuse(ErrorCode::InvalidConfig, message))?;
        if validate_only {
            return Ok(());
        }
        let target = ConfigTarget::ClientMetrics(name.to_owned());
        decide_on(metadata, target, replace, changes).await
    }
}

/// A pattern is `client_id=app-.*`.
fn check_match(pattern: &str) -> Result<(), String> {
    let selector = pattern.split_once('=');
    let selector = selector.map(|(name, regex)| (name.trim(), regex.trim()));
    match selector {
        Some((name, regex)) if SELECTORS.contains(&name) => match Regex::new(regex) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!(
                "Illegal client matching pattern: {pattern}: {error}"
            )),
        },
        _ => Err(format!("Illegal client matching pattern: {pattern}")),
    }
}
