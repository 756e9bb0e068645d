#![allow(missing_docs, dead_code)]
use alluvium_transport::*;
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
#[derive(Clone, Debug)]
pub(crate) struct TlsOptions {
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}
#[derive(Debug)]
pub(crate) struct Http2Transport;
#[derive(Debug, thiserror::Error)]
#[error("tls")]
pub(crate) struct TlsError;
impl Http2Transport {
    pub(crate) fn new(_tls: Option<TlsOptions>) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self))
    }
}
#[async_trait::async_trait]
impl Transport for Http2Transport {
    async fn call(
        &self,
        address: &str,
        _l: Lane,
        _r: Bytes,
        _w: Duration,
    ) -> Result<Bytes, TransportError> {
        Err(TransportError::Unreachable {
            address: address.to_owned(),
            reason: "stub".to_owned(),
        })
    }
    async fn open(
        &self,
        address: &str,
        _l: Lane,
        _r: Bytes,
        _w: Duration,
    ) -> Result<Incoming, TransportError> {
        Err(TransportError::Unreachable {
            address: address.to_owned(),
            reason: "stub".to_owned(),
        })
    }
}
#[derive(Debug)]
pub(crate) struct TransportListener;
impl TransportListener {
    pub(crate) fn start(
        _l: tokio::net::TcpListener,
        _s: Arc<dyn Service>,
        _t: Option<TlsOptions>,
    ) -> Result<Self, TlsError> {
        Ok(Self)
    }
    pub(crate) async fn shutdown(self) {}
}
