//! What OTLP's exporter sends with: the same client as for endpoints, without the rules that are about endpoints.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Request, Response};
use bytes::Bytes;
use ipnet::IpNet;
use opentelemetry_http::{HttpClient, HttpError};

use super::client::{self, Client, ClientError, Options};

/// For one request.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A collector of traces.
pub struct Collector(Client);

impl Collector {
    /// A collector is an operator's, not a customer's: it may be anywhere.
    pub fn new(user_agent: &str) -> Result<Collector, ClientError> {
        let everywhere = [IpNet::V4(Default::default()), IpNet::V6(Default::default())];
        let client = Client::new(Options {
            connect_timeout: CONNECT_TIMEOUT,
            allow_cidrs: everywhere.to_vec(),
            proxy: None,
            max_response_bytes: 0,
            max_idle_per_host: 1,
            max_kept_hosts: 1,
            user_agent: user_agent.to_owned(),
        })?;
        Ok(Collector(client))
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let url = head.uri.to_string();
        let exchange = self.0.deliver(client::Request {
            url: &url,
            headers: pairs(&head.headers),
            body,
            timeout: TIMEOUT,
            own_tls: None,
        });
        let exchange = exchange.await;
        let outcome = exchange.outcome.map_err(|fault| fault.text())?;
        let Some(status) = outcome.status() else {
            return Err(outcome.error().unwrap_or_default().into());
        };
        let mut response = Response::builder().status(status);
        for (name, value) in exchange.response_headers.iter().filter(|(name, _)| name == "retry-after") {
            response = response.header(name, value);
        }
        // What a collector says of spans that it refuses is not read.
        Ok(response.body(Bytes::new())?)
    }
}

fn pairs(headers: &HeaderMap<HeaderValue>) -> Vec<(&str, &str)> {
    headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect()
}

impl HttpClient for Collector {
    /// As `async_trait` would have it.
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.send(request))
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}
