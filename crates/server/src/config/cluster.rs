//! `[cluster]`.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use alluvium_transport::{Http2Transport, TlsOptions};

use super::errors::ConfigError;
use super::section;

section! {
    /// How the processes of a cluster reach each other.
    pub struct Cluster in "cluster." {
        /// Address and port where this process listens for the others of the cluster: a metadata node
        /// for all of them, an agent for the other agents, which keep copies of chunks for one another
        /// and share what they read from the store. Port 0 takes a free one. Unset, nobody can join a
        /// metadata node, and an agent does nothing for others.
        listen: Option<String> = None,
        /// What the others are told to connect to, as `host:port`. Unset, it is the address of
        /// `listen`.
        advertised: Option<String> = None,
        /// The metadata nodes' addresses, `host:port`, the same list on every process of the cluster.
        /// New metadata nodes form a quorum when all of them answer; one that lists only itself is a
        /// quorum of its own. Without a list, a metadata node waits for `alluvium cluster init` or
        /// `alluvium cluster add-voter`; if it has no `listen` either, it is a quorum of its own.
        nodes: Vec<String> = Vec::new(),
        /// A file of certificates (PEM): both sides of every connection between processes must show
        /// one that these signed. Unset, connections are plain and trust everybody.
        tls_ca: Option<PathBuf> = None,
        /// This process's certificate, a PEM file with those between it and the CA.
        tls_certificate: Option<PathBuf> = None,
        /// The certificate's private key, a PEM file.
        tls_key: Option<PathBuf> = None,
    }
}

impl Cluster {
    /// What this process calls itself, as far as the configuration says.
    fn own(&self) -> Option<&str> {
        self.advertised.as_deref().or(self.listen.as_deref())
    }

    /// The addresses of `nodes` that are not this process's own.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &str> {
        let own = self.own();
        let nodes = self.nodes.iter().map(String::as_str);
        nodes.filter(move |node| Some(*node) != own)
    }

    /// How connections between processes are encrypted, if they are.
    #[must_use]
    pub fn tls(&self) -> Option<TlsOptions> {
        Some(TlsOptions {
            ca: self.tls_ca.clone()?,
            certificate: self.tls_certificate.clone()?,
            key: self.tls_key.clone()?,
        })
    }

    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        self.check_own(errors);
        let mut seen = HashSet::new();
        for node in &self.nodes {
            if !is_reachable(node) {
                errors.push(ConfigError::of(
                    "cluster.nodes",
                    format!("{node:?} is no address to connect to; write host:port"),
                ));
            }
            if !seen.insert(node) {
                errors.push(ConfigError::of(
                    "cluster.nodes",
                    format!("{node:?} is there twice"),
                ));
            }
        }
        self.check_tls(errors);
    }

    fn check_own(&self, errors: &mut Vec<ConfigError>) {
        if let Some(listen) = &self.listen
            && host_and_port(listen).is_none()
        {
            errors.push(ConfigError::of(
                "cluster.listen",
                format!("{listen:?} is not an address; write host:port, for example 0.0.0.0:9094"),
            ));
        }
        match (&self.advertised, &self.listen) {
            (Some(address), _) if !is_reachable(address) => errors.push(ConfigError::of(
                "cluster.advertised",
                format!("{address:?} is no address to connect to; write host:port"),
            )),
            (None, Some(listen)) if is_everywhere(listen) => errors.push(ConfigError::of(
                "cluster.advertised",
                format!(
                    "is missing: cluster.listen = {listen:?} is every address of this machine, which \
                     no other can connect to; name host:port where others reach it"
                ),
            )),
            _ => {}
        }
    }

    fn check_tls(&self, errors: &mut Vec<ConfigError>) {
        let files = [
            ("cluster.tls_ca", &self.tls_ca),
            ("cluster.tls_certificate", &self.tls_certificate),
            ("cluster.tls_key", &self.tls_key),
        ];
        if files.iter().all(|(_, file)| file.is_none()) {
            return;
        }
        let known = errors.len();
        for (key, file) in files {
            match file {
                None => errors.push(ConfigError::of(
                    key,
                    "is missing: cluster.tls_ca, cluster.tls_certificate and cluster.tls_key \
                     belong together; set all three or none",
                )),
                Some(path) => {
                    if let Err(error) = std::fs::File::open(path) {
                        let reason = format!("{} cannot be read: {error}", path.display());
                        errors.push(ConfigError::of(key, reason));
                    }
                }
            }
        }
        // Whether they are what they should be, and fit together.
        if errors.len() == known
            && let Err(error) = Http2Transport::new(self.tls())
        {
            errors.push(ConfigError::of("cluster.tls_*", error.to_string()));
        }
    }
}

fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    // An address of version 6 is written in brackets.
    let is_bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty() || host.len() > 255 || is_bare_v6 {
        return None;
    }
    Some((host, port.parse().ok()?))
}

/// Whether somebody elsewhere can connect to it.
fn is_reachable(text: &str) -> bool {
    host_and_port(text).is_some_and(|(host, port)| {
        let ip = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>();
        port != 0 && !ip.is_ok_and(|ip| ip.is_unspecified())
    })
}

fn is_everywhere(listen: &str) -> bool {
    listen
        .parse::<SocketAddr>()
        .is_ok_and(|address| address.ip().is_unspecified())
}
