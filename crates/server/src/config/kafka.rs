//! `[kafka]`.

use std::net::{IpAddr, SocketAddr};

use super::errors::ConfigError;
use super::{Mode, section};

section! {
    /// The Kafka listener. Kafka's own settings may stand in this section too, by their names in
    /// quotes: `"num.partitions" = 3`.
    pub struct Kafka in "kafka." {
        /// Address and port to listen on. Port 0 takes a free one.
        listen: String = "127.0.0.1:9092".to_owned(),
        /// Host that clients are told to connect to. Unset, it is the address of `listen`.
        advertised_host: Option<String> = None,
        /// Port that clients are told to connect to. Unset, it is the port listened on.
        advertised_port: Option<u16> = None,
    }
}

impl Kafka {
    pub(super) fn check(&self, mode: Mode, errors: &mut Vec<ConfigError>) {
        if let Some(host) = &self.advertised_host
            && (host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) || host.len() > 255)
        {
            errors.push(ConfigError::of(
                "kafka.advertised_host",
                format!("{host:?} is not an address that a client can connect to"),
            ));
        }
        if mode == Mode::Server && self.advertised_host.is_none() && self.is_everywhere() {
            errors.push(ConfigError::of(
                "kafka.advertised_host",
                format!(
                    "is missing: kafka.listen = {:?} is every address of this machine, which no \
                     client can connect to; name the host that clients reach it at",
                    self.listen
                ),
            ));
        }
    }

    fn is_everywhere(&self) -> bool {
        self.listen
            .parse::<SocketAddr>()
            .is_ok_and(|address| address.ip().is_unspecified())
    }
}
