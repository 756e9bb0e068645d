//! What a request costs.

use std::path::Path;

use serde::Deserialize;

use crate::failure::Failure;

/// Prices of a store. What a file does not name costs nothing.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default = "Prices::free", deny_unknown_fields)]
pub(super) struct Prices {
    /// Of all prices.
    pub(super) currency: String,
    /// Per 1,000 creates, and per 1,000 requests of uploads in parts.
    pub(super) put: f64,
    /// Per 1,000 reads.
    pub(super) get: f64,
    /// Per 1,000 lookups.
    pub(super) head: f64,
    /// Per 1,000 listings.
    pub(super) list: f64,
    /// Per 1,000 deletions.
    pub(super) delete: f64,
    /// Per GiB written.
    pub(super) written: f64,
    /// Per GiB read.
    pub(super) read: f64,
}

impl Default for Prices {
    /// AWS's list prices of S3 Standard in us-east-1. docs/operations.md says of when.
    fn default() -> Self {
        Self {
            put: 0.005,
            get: 0.0004,
            head: 0.0004,
            list: 0.005,
            ..Self::free()
        }
    }
}

impl Prices {
    fn free() -> Self {
        Self {
            currency: "USD".to_owned(),
            put: 0.0,
            get: 0.0,
            head: 0.0,
            list: 0.0,
            delete: 0.0,
            written: 0.0,
            read: 0.0,
        }
    }

    /// Reads a file of prices.
    pub(super) fn read(file: &Path) -> Result<Self, Failure> {
        let wrong = |reason: String| {
            Failure::Usage(format!(
                "{} is no file of prices: {reason}; its keys are currency, put, get, head, list, \
                 delete (per 1,000 requests), written and read (per GiB)",
                file.display()
            ))
        };
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let prices: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let all = [
            prices.put,
            prices.get,
            prices.head,
            prices.list,
            prices.delete,
            prices.written,
            prices.read,
        ];
        if all.iter().all(|price| price.is_finite() && *price >= 0.0) {
            Ok(prices)
        } else {
            Err("a price is below 0 or no number".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_what_is_not_free() {
        let prices = Prices::parse("currency = \"EUR\"\nput = 0.01\nread = 1").unwrap();
        assert_eq!((prices.put, prices.get, prices.read), (0.01, 0.0, 1.0));
        assert_eq!(prices.currency, "EUR");
        for wrong in ["puts = 1", "put = -1", "put = nan", "put = \"x\"", "put"] {
            assert!(Prices::parse(wrong).is_err(), "{wrong}");
        }
    }
}
