//! Connecting, by TLS where the URL says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lapin::tcp::{AMQPUriTcpExt, RustlsConnector, RustlsConnectorConfig, TLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};

use crate::tls;

/// With no files of our own, the system's authorities are trusted. A configured authority is trusted instead of them, so that a
/// certificate of any other one is worth nothing.
pub(super) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    files: &tls::Files,
) -> lapin::Result<Connection> {
    if uri.scheme == AMQPScheme::AMQP {
        return Connection::connect_uri(uri, properties).await;
    }
    let connector = connector(files)?;
    let runtime = lapin::runtime::default_runtime()?;
    let shaken_hands = Arc::new(AtomicBool::new(false));
    let done = shaken_hands.clone();
    let connecting = Connection::connector(
        uri,
        runtime,
        async move |uri, runtime| {
            done.store(false, Ordering::Relaxed);
            let plain = AMQPUri { scheme: AMQPScheme::AMQP, ..uri.clone() };
            let stream = plain.connect_with_config_async(TLSConfig::default(), &runtime).await?;
            let stream = stream.into_rustls(&connector, &uri.authority.host).await?;
            done.store(true, Ordering::Relaxed);
            Ok(stream)
        },
        properties,
    );
    connecting.await.map_err(|error| match error.kind() {
        lapin::ErrorKind::IOError(io) if shaken_hands.load(Ordering::Relaxed) => {
            tls::ended_after_handshake(io).map_or(error, lapin::Error::from)
        }
        _ => error,
    })
}

fn connector(files: &tls::Files) -> std::io::Result<RustlsConnector> {
    let refused = |problem: String| std::io::Error::new(std::io::ErrorKind::InvalidData, problem);
    let config = match &files.ca {
        Some(ca) => {
            let authorities = tls::certificates(ca).map_err(|problem| refused(format!("broker.tls_ca: {problem}")))?;
            RustlsConnectorConfig::default().with_parsable_certificates(authorities)
        }
        None => RustlsConnectorConfig::new_with_native_certs()?,
    };
    let Some(own) = &files.own else { return config.connector_with_no_client_auth() };
    let chain = tls::certificates(&own.cert).map_err(|problem| refused(format!("broker.tls_cert: {problem}")))?;
    let key = tls::private_key(&own.key).map_err(|problem| refused(format!("broker.tls_key: {problem}")))?;
    config.connector_with_single_cert(chain, key)
}
