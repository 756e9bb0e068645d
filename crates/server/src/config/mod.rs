//! Configuration: one value, made of defaults and three layers.
//!
//! Later layers win: defaults, the TOML file, `ALLUVIUM_SECTION__KEY` variables, and what the
//! command line says (`--set section.key=value` and flags that stand for a key). Kafka's own broker
//! settings are taken by their names, as `--set num.partitions=3` or quoted in the `[kafka]` section
//! of the file:
//!
//! ```toml
//! roles = ["agent", "metadata"]
//! data_dir = "/var/lib/alluvium"
//!
//! [store]
//! url = "s3://my-bucket/alluvium"
//!
//! [kafka]
//! listen = "0.0.0.0:9092"
//! advertised_host = "kafka.example.org"
//! "num.partitions" = 3
//!
//! [flush]
//! interval = "250ms"
//! chunk_bytes = "8MiB"
//! ```
//!
//! An unknown key is an error that names the nearest known one; `unknown_keys = "warn"` makes it a
//! warning, for a rollback to an older release. Every error is reported at once. The sections and
//! their keys are the structs of this module; a key's documentation is that of its field.

mod agent;
mod cache;
mod check;
mod cluster;
mod compaction;
mod errors;
mod flush;
mod http;
mod journal;
mod kafka;
mod layers;
mod log;
mod machine;
mod memory;
mod metadata;
mod nearest;
mod section;
mod settle;
mod store;
mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;

use section::{Section, Settings, section};

pub use agent::Agent;
pub use cache::Cache;
pub use cluster::Cluster;
pub use compaction::Compaction;
pub use errors::{ConfigError, ConfigErrors};
pub use flush::Flush;
pub use http::Http;
pub use journal::Journal;
pub use kafka::Kafka;
pub use layers::{Override, Sources};
pub use log::{Log, LogFormat};
pub use memory::{Budgets, Memory, MemoryLimit};
pub use metadata::Metadata;
pub use section::Explained;
pub use settle::Settle;
pub use store::Store;
pub use value::{ByteSize, Role, UnknownKeys};

#[cfg(test)]
mod tests;

/// Which command the configuration is for; it decides a few defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `alluvium dev`: a laptop.
    Dev,
    /// `alluvium server`: a machine of its own.
    Server,
}

section! {
    /// Keys outside any section.
    pub struct Process in "" {
        /// What this process does: `"agent"` serves clients, `"metadata"` is a voter of the metadata
        /// quorum. One of them, or both.
        roles: Vec<Role> = vec![Role::Agent, Role::Metadata],
        /// Folder for the lock, the identity and the metadata. Made when it is missing.
        data_dir: PathBuf = PathBuf::from("./alluvium-data"),
        /// What to do about a key that is not known: `"error"` or `"warn"`.
        unknown_keys: UnknownKeys = UnknownKeys::Error,
    }
}

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Keys outside any section.
    pub process: Process,
    /// `[store]`.
    pub store: Store,
    /// `[kafka]`.
    pub kafka: Kafka,
    /// Kafka's broker settings by their names.
    pub broker: BTreeMap<String, String>,
    /// `[http]`.
    pub http: Http,
    /// `[flush]`.
    pub flush: Flush,
    /// `[journal]`.
    pub journal: Journal,
    /// `[settle]`.
    pub settle: Settle,
    /// `[cache]`.
    pub cache: Cache,
    /// `[compaction]`.
    pub compaction: Compaction,
    /// `[memory]`.
    pub memory: Memory,
    /// `[cluster]`.
    pub cluster: Cluster,
    /// `[metadata]`.
    pub metadata: Metadata,
    /// `[agent]`.
    pub agent: Agent,
    /// `[log]`.
    pub log: Log,
}

/// A configuration with what is worth saying about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Unknown keys that were let pass, and what is allowed and may yet be a mistake.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads every layer and checks the result.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn load(mode: Mode, sources: &Sources) -> Result<Loaded, ConfigErrors> {
        let (layers, mut errors) = layers::gather(sources);
        let mut settings = Settings::new(layers);
        let mut config = Self::read(&mut settings, &Self::defaults(mode));
        let mut warnings = Vec::new();
        let (broker, unknown) = settings.split_rest(&Self::keys());
        config.broker = Self::defaults(mode).broker;
        config.broker.extend(broker);
        if config.process.unknown_keys == UnknownKeys::Warn {
            warnings.extend(unknown.iter().map(ToString::to_string));
        } else {
            errors.extend(unknown);
        }
        errors.extend(settings.into_errors());
        config.check(mode, &mut errors, &mut warnings);
        if errors.is_empty() {
            Ok(Loaded { config, warnings })
        } else {
            Err(ConfigErrors(errors))
        }
    }

    /// The configuration when nothing is set.
    #[must_use]
    pub fn defaults(mode: Mode) -> Self {
        let mut config = Self::default();
        if mode == Mode::Dev {
            // Kafka waits 3 s for more members to come; on a laptop nobody else does.
            let delay = "group.initial.rebalance.delay.ms".to_owned();
            config.broker.insert(delay, "0".to_owned());
            config.memory.limit = Some(MemoryLimit::Bytes(ByteSize(1 << 30)));
        }
        if mode == Mode::Server {
            config.log.format = LogFormat::Json;
        }
        config
    }

    fn read(settings: &mut Settings, defaults: &Self) -> Self {
        Self {
            process: Section::read(settings, &defaults.process),
            store: Section::read(settings, &defaults.store),
            kafka: Section::read(settings, &defaults.kafka),
            broker: BTreeMap::new(),
            http: Section::read(settings, &defaults.http),
            flush: Section::read(settings, &defaults.flush),
            journal: Section::read(settings, &defaults.journal),
            settle: Section::read(settings, &defaults.settle),
            cache: Section::read(settings, &defaults.cache),
            compaction: Section::read(settings, &defaults.compaction),
            memory: Section::read(settings, &defaults.memory),
            cluster: Section::read(settings, &defaults.cluster),
            metadata: Section::read(settings, &defaults.metadata),
            agent: Section::read(settings, &defaults.agent),
            log: Section::read(settings, &defaults.log),
        }
    }

    /// Every key of ours, as `section.key`.
    #[must_use]
    pub fn keys() -> Vec<&'static str> {
        [
            Process::KEYS,
            Store::KEYS,
            Kafka::KEYS,
            Http::KEYS,
            Flush::KEYS,
            Journal::KEYS,
            Settle::KEYS,
            Cache::KEYS,
            Compaction::KEYS,
            Memory::KEYS,
            Cluster::KEYS,
            Metadata::KEYS,
            Agent::KEYS,
            Log::KEYS,
        ]
        .concat()
    }

    /// Every key of ours with its meaning and defaults, section by section.
    #[must_use]
    pub fn explain() -> Vec<Explained> {
        let (dev, server) = (Self::defaults(Mode::Dev), Self::defaults(Mode::Server));
        [
            Section::explain(&dev.process, &server.process),
            Section::explain(&dev.store, &server.store),
            Section::explain(&dev.kafka, &server.kafka),
            Section::explain(&dev.http, &server.http),
            Section::explain(&dev.cluster, &server.cluster),
            Section::explain(&dev.metadata, &server.metadata),
            Section::explain(&dev.agent, &server.agent),
            Section::explain(&dev.flush, &server.flush),
            Section::explain(&dev.journal, &server.journal),
            Section::explain(&dev.settle, &server.settle),
            Section::explain(&dev.cache, &server.cache),
            Section::explain(&dev.compaction, &server.compaction),
            Section::explain(&dev.memory, &server.memory),
            Section::explain(&dev.log, &server.log),
        ]
        .concat()
    }

    /// The bucket's URL.
    ///
    /// # Errors
    /// The data directory has no absolute path (the current directory is gone).
    pub fn store_url(&self) -> Result<String, ConfigError> {
        if let Some(url) = &self.store.url {
            return Ok(url.clone());
        }
        let folder = std::path::absolute(self.process.data_dir.join("objects"))
            .map_err(|error| ConfigError::of("data_dir", error.to_string()))?;
        url::Url::from_file_path(&folder)
            .map(String::from)
            .map_err(|()| ConfigError::of("data_dir", format!("{} is no path", folder.display())))
    }
}
