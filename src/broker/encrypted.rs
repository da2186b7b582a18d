//! Connecting, by TLS where the URL says so.

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
    if uri.scheme == AMQPScheme::AMQP || files.is_empty() {
        return Connection::connect_uri(uri, properties).await;
    }
    let connector = connector(files)?;
    let runtime = lapin::runtime::default_runtime()?;
    Connection::connector(
        uri,
        runtime,
        async move |uri, runtime| {
            let plain = AMQPUri { scheme: AMQPScheme::AMQP, ..uri.clone() };
            let stream = plain.connect_with_config_async(TLSConfig::default(), &runtime).await?;
            Ok(stream.into_rustls(&connector, &uri.authority.host).await?)
        },
        properties,
    )
    .await
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
