//! Whether a URL may be an endpoint's: what could never be sent to is refused before it is stored.

use std::net::IpAddr;

use url::Url;

use super::super::compose;
use super::super::failure::{Failure, Outcome};
use crate::config::Config;
use crate::http::resolver::ResolveError;
use crate::http::target;
use crate::store::endpoints::Endpoint;
use crate::store::{Db, tenants};

/// All that can be said without the tenant. A name that does not resolve just now is accepted with a warning.
pub async fn checked(config: &Config, text: &str) -> Result<Url, Failure> {
    let url = target::check_url(text).map_err(|error| Failure::Usage(error.to_string()))?;
    obeys(config, &url, false)?;
    let client = compose::http_client(config)?;
    match client.resolver().check(&url).await {
        Ok(_) => {}
        Err(ResolveError::Blocked(blocked)) => return Err(blocked_url(blocked.0)),
        Err(ResolveError::DoesNotExist | ResolveError::NoAnswer) => {
            tracing::warn!("url: the host does not resolve just now; accepted, and checked again before every request");
        }
    }
    if url.scheme() == "http" {
        tracing::warn!(
            "url: begins with http://, so payloads travel unencrypted and anybody on the way can change the answer; use https:// where the receiver can"
        );
    }
    Ok(url)
}

/// The rest, once the tenant is known.
pub async fn allowed_to(config: &Config, db: &Db, tenant: &str, url: &Url) -> Outcome {
    obeys(config, url, tenants::requires_https(db, tenant).await?)
}

/// Whether an endpoint may be sent to as it is stored.
pub async fn may_be_sent_to(config: &Config, db: &Db, endpoint: &Endpoint) -> Outcome {
    let url = target::check_url(&endpoint.url).map_err(|error| Failure::Usage(error.to_string()))?;
    allowed_to(config, db, &endpoint.tenant, &url).await
}

fn obeys(config: &Config, url: &Url, tenant_requires_https: bool) -> Outcome {
    let checked = compose::url_rules(config).check(url, tenant_requires_https);
    checked.map_err(|refused| Failure::Usage(refused.to_string()))
}

fn blocked_url(address: IpAddr) -> Failure {
    Failure::Usage(format!(
        "url: the host resolves to {address}, which is not a public address; use a public host, or allow the network with delivery.allow_cidrs"
    ))
}
