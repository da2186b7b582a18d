//! The host that the doctor runs on.

use std::collections::BTreeMap;

use url::Url;

use super::super::{compose, open_files};
use crate::config::Config;
use crate::domain::doctor::Check;
use crate::domain::doctor::host::{self, Names};
use crate::http::resolver::ResolveError;
use crate::store::endpoints;

/// Endpoints that are looked at, and hosts that are asked for.
const ENDPOINTS: i64 = 200;
const HOSTS: usize = 10;

pub async fn checks(config: &Config) -> Vec<Check> {
    let (needed, allowed) = open_files::needed_and_allowed(config);
    vec![host::open_files(needed, allowed), dns(config).await]
}

/// Asks for hosts of endpoints, one after the other.
async fn dns(config: &Config) -> Check {
    let unknown = |why: String| Check::unknown("host.dns", why, "nothing was asked for");
    let Ok(client) = compose::http_client(config) else { return unknown("there is no resolver here".into()) };
    let urls = match urls(config).await {
        Ok(urls) => urls,
        Err(why) => return unknown(format!("the endpoints cannot be read: {why}")),
    };
    let mut names = Names::default();
    for (host, url) in urls {
        match client.resolver().check(&url).await {
            Ok(_) => names.resolved += 1,
            Err(ResolveError::NoAnswer) => names.unanswered.push(host),
            Err(ResolveError::Blocked(_) | ResolveError::DoesNotExist) => names.refused.push(host),
        }
    }
    host::dns(&names)
}

/// By host, so that none is asked for twice.
async fn urls(config: &Config) -> Result<BTreeMap<String, Url>, String> {
    let db = compose::command_db(config).map_err(|failure| failure.to_string())?;
    let listed = endpoints::list(&db, None, ENDPOINTS).await;
    db.close().await;
    let enabled =
        listed.map_err(|error| error.to_string())?.into_iter().filter(|endpoint| endpoint.status == "enabled");
    let urls = enabled.filter_map(|endpoint| Url::parse(&endpoint.url).ok());
    let by_host: BTreeMap<String, Url> = urls.filter_map(|url| Some((url.host_str()?.to_owned(), url))).collect();
    Ok(by_host.into_iter().take(HOSTS).collect())
}
