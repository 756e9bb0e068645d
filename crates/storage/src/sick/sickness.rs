//! What a sick store suffers from, as its URL says.

use std::path::PathBuf;
use std::time::Duration;

use alluvium_types::parse_duration;

use super::counts::{Fault, Kind};
use super::latency::Latencies;
use crate::bucket::OpenError;

const SCHEME: &str = "sick:";

/// A well-known state of health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Takes no time and fails nothing.
    Zero,
    /// As fast as S3 Standard.
    Standard,
    /// As fast as S3 Express One Zone.
    Express,
    /// Slow, failing and ambiguous.
    BadDay,
}

/// When a store is switched off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Off {
    /// While this file exists.
    File(PathBuf),
    /// For a while, that long after it was opened.
    Window {
        /// From then
        from: Duration,
        /// for so long.
        lasts: Duration,
    },
}

/// What a store suffers from.
#[derive(Clone, Debug, PartialEq)]
pub struct Sickness {
    /// Everything follows from it; drawn when it is not given.
    pub seed: Option<u64>,
    /// How long requests take.
    pub latencies: Latencies,
    /// Share of requests that meet a fault, for those that can.
    rates: [f64; 6],
    /// Requests a second above which there is a SlowDown.
    pub limit: Option<u32>,
    /// When it is switched off; any of them.
    pub off: Vec<Off>,
    /// Whether requests then hang instead of failing at once.
    pub hangs_when_off: bool,
}

/// The faults that have a rate, in the order in which they are drawn.
const RATED: [Fault; 6] = [
    Fault::Error,
    Fault::SlowDown,
    Fault::Hang,
    Fault::Truncated,
    Fault::Corrupt,
    Fault::Ambiguous,
];

impl Profile {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "zero" => Self::Zero,
            "standard" => Self::Standard,
            "express" => Self::Express,
            "bad-day" => Self::BadDay,
            _ => return None,
        })
    }
}

impl From<Profile> for Sickness {
    fn from(profile: Profile) -> Self {
        let (latencies, rates) = match profile {
            Profile::Zero => (Latencies::ZERO, [0.0; 6]),
            Profile::Standard => (Latencies::STANDARD, [0.0; 6]),
            Profile::Express => (Latencies::EXPRESS, [0.0; 6]),
            Profile::BadDay => (Latencies::BAD_DAY, [0.05, 0.01, 0.002, 0.005, 0.002, 0.01]),
        };
        Self {
            seed: None,
            latencies,
            rates,
            limit: None,
            off: Vec::new(),
            hangs_when_off: false,
        }
    }
}

impl Sickness {
    /// The same with a fault at this rate, from 0 to 1.
    #[must_use]
    pub fn with(mut self, fault: Fault, rate: f64) -> Self {
        for (rated, held) in RATED.iter().zip(&mut self.rates) {
            if *rated == fault {
                *held = rate;
            }
        }
        self
    }

    /// The same with a seed.
    #[must_use]
    pub const fn seeded(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Tells a store's sickness and its URL apart. A URL that is not `sick:` has none.
    pub(crate) fn of_url(url: &str) -> Result<(Option<Self>, &str), OpenError> {
        let Some(rest) = url.strip_prefix(SCHEME) else {
            return Ok((None, url));
        };
        let wrong = |reason: String| {
            OpenError(format!(
                "{url:?} is no store: {reason}; give sick:PROFILE[,key=value…]:URL"
            ))
        };
        let Some((words, plain)) = rest.split_once(':') else {
            return Err(wrong("there is no URL after the profile".to_owned()));
        };
        if plain.starts_with(SCHEME) {
            return Err(wrong("it is sick twice".to_owned()));
        }
        Ok((Some(Self::parse(words).map_err(wrong)?), plain))
    }

    fn parse(words: &str) -> Result<Self, String> {
        let mut words = words.split(',');
        let name = words.next().unwrap_or_default();
        let profile = Profile::parse(name).ok_or_else(|| {
            format!("{name:?} is no profile; there are zero, standard, express and bad-day")
        })?;
        let mut sickness = Self::from(profile);
        let mut window = (None, None);
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                return Err(format!("{word:?} is not key=value"));
            };
            let number = || {
                let number = value.parse::<f64>().ok();
                let number = number.filter(|number| number.is_finite() && *number >= 0.0);
                number.ok_or_else(|| format!("{key}: {value:?} is no number from 0"))
            };
            let whole = || {
                let whole = value.parse::<u64>();
                whole.map_err(|_| format!("{key}: {value:?} is no whole number"))
            };
            let time = || parse_duration(value).map_err(|error| format!("{key}: {error}"));
            match key {
                "seed" => sickness.seed = Some(whole()?),
                "scale" => sickness.latencies.scale = number()?,
                "tail" => sickness.latencies.tail = number()?,
                "limit" => {
                    let limit = u32::try_from(whole()?);
                    sickness.limit = Some(limit.map_err(|error| format!("{key}: {error}"))?);
                }
                "off-file" => sickness.off.push(Off::File(value.into())),
                "off-from" => window.0 = Some(time()?),
                "off-for" => window.1 = Some(time()?),
                "off-mode" => {
                    sickness.hangs_when_off = match value {
                        "fail" => false,
                        "hang" => true,
                        _ => return Err(format!("{key}: {value:?} is neither fail nor hang")),
                    }
                }
                _ => {
                    let fault = RATED.into_iter().find(|fault| fault.name() == key);
                    let Some(fault) = fault else {
                        return Err(format!("{key:?} is no key"));
                    };
                    let rate = number()?;
                    if rate > 1.0 {
                        return Err(format!("{key}: {value} is a rate above 1"));
                    }
                    sickness = sickness.with(fault, rate);
                }
            }
        }
        match window {
            (None, None) => {}
            (from, Some(lasts)) => sickness.off.push(Off::Window {
                from: from.unwrap_or_default(),
                lasts,
            }),
            (Some(_), None) => return Err("off-from needs off-for".to_owned()),
        }
        if sickness.rates.iter().sum::<f64>() > 1.0 {
            return Err("the rates of all faults add up to more than 1".to_owned());
        }
        Ok(sickness)
    }

    /// The fault that a draw from 0 to 1 stands for.
    pub(super) fn fault(&self, kind: Kind, draw: f64) -> Option<Fault> {
        let mut below = 0.0;
        for (fault, rate) in RATED.into_iter().zip(self.rates) {
            below += rate;
            if draw < below {
                return fault.befalls(kind).then_some(fault);
            }
        }
        None
    }

    /// Whether the store is switched off, so long after it was opened.
    pub(super) fn is_off(&self, since: Duration) -> bool {
        self.off.iter().any(|off| match off {
            Off::File(path) => path.exists(),
            Off::Window { from, lasts } => (*from..*from + *lasts).contains(&since),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_what_a_store_suffers_from() {
        let (none, plain) = Sickness::of_url("s3://b/p").unwrap();
        assert_eq!((none, plain), (None, "s3://b/p"));
        let url = "sick:standard,seed=7,errors=0.01,hang=0.001,scale=0.5,limit=9,\
                   off-file=/tmp/off,off-from=1s,off-for=2m,off-mode=hang:file:///tmp/x";
        let (sickness, plain) = Sickness::of_url(url).unwrap();
        let sickness = sickness.unwrap();
        assert_eq!(plain, "file:///tmp/x");
        let mut expected = Sickness::from(Profile::Standard)
            .with(Fault::Error, 0.01)
            .with(Fault::Hang, 0.001)
            .seeded(7);
        expected.latencies.scale = 0.5;
        expected.limit = Some(9);
        expected.hangs_when_off = true;
        expected.off = vec![
            Off::File("/tmp/off".into()),
            Off::Window {
                from: Duration::from_secs(1),
                lasts: Duration::from_secs(120),
            },
        ];
        assert_eq!(sickness, expected);
        assert!(sickness.is_off(Duration::from_secs(60)));
        assert!(!sickness.is_off(Duration::from_secs(200)));
    }

    #[test]
    fn a_url_that_is_wrong_is_explained() {
        for (url, word) in [
            ("sick:standard", "no URL"),
            ("sick:well:memory://", "no profile"),
            ("sick:zero,errors:memory://", "key=value"),
            ("sick:zero,errors=2:memory://", "above 1"),
            ("sick:zero,errors=-1:memory://", "no number"),
            ("sick:zero,errors=NaN:memory://", "no number"),
            ("sick:zero,errors=0.6,hang=0.6:memory://", "more than 1"),
            ("sick:zero,eror=0.1:memory://", "no key"),
            ("sick:zero,off-from=1s:memory://", "off-for"),
            ("sick:zero:sick:zero:memory://", "twice"),
        ] {
            let error = Sickness::of_url(url).unwrap_err().to_string();
            assert!(error.contains(word), "{url}: {error}");
        }
    }
}
