//! `posthaste endpoint`: adding, looking at and changing endpoints.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use uuid::Uuid;

use super::output::Output;
use super::parse::{self, Header, Setting};
use crate::domain::signature::Secret;

#[derive(Debug, Subcommand)]
pub enum Endpoint {
    /// Add an endpoint. Its signing secret is printed this once.
    Add(AddEndpoint),
    /// List endpoints.
    List(ListEndpoints),
    /// Show one endpoint.
    Show(EndpointId),
    /// Change what is given and leave the rest.
    Set(SetEndpoint),
    /// Send again, and release what is held.
    Enable(EndpointId),
    /// Lift every pause of an enabled endpoint: a wish to slow down, a rate's queue, an open circuit. What is held is due at
    /// once.
    Resume(EndpointId),
    /// Stop sending; what is due meanwhile is held.
    Disable {
        #[command(flatten)]
        endpoint: EndpointId,
        /// Why, for whoever looks at it later.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Remove an endpoint; its unfinished deliveries become dead.
    Remove {
        #[command(flatten)]
        endpoint: EndpointId,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Make a new signing key of a scheme; the old ones of it keep signing for the grace period.
    RotateSecret(RotateSecret),
    /// Print the public keys that verify its v1a signatures, as a JSON Web Key Set.
    Jwks(EndpointId),
    /// Send one signed test request and show the answer.
    Test(EndpointId),
}

/// A scheme of signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scheme {
    /// HMAC-SHA256 under a shared secret.
    V1,
    /// ed25519 under a private key.
    #[value(name = "v1a")]
    V1a,
}

#[derive(Debug, Args)]
pub struct EndpointId {
    /// Id of the endpoint.
    #[arg(value_parser = parse::id)]
    pub id: Uuid,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct AddEndpoint {
    /// The customer that the endpoint belongs to.
    #[arg(long, value_parser = parse::tenant)]
    pub tenant: String,
    /// Where to send: https://host/path.
    #[arg(long)]
    pub url: String,
    /// Types to send, comma-separated: order.created, order.*, or * [default: every type].
    #[arg(long, value_delimiter = ',', value_name = "TYPES", value_parser = parse::event_filter)]
    pub event_types: Vec<String>,
    /// How to sign, comma-separated: v1 by a secret that is shared with the receiver, v1a by a key pair whose private half
    /// nobody else gets.
    #[arg(long, value_delimiter = ',', value_name = "SCHEMES", default_value = "v1")]
    pub scheme: Vec<Scheme>,
    /// Signing secret for v1, whsec_ and base64 [default: a new one].
    #[arg(long, value_name = "WHSEC", value_parser = parse::secret)]
    pub secret: Option<Secret>,
    /// A file with the private key for v1a, whsk_ and base64; - is stdin [default: a new one].
    #[arg(long, value_name = "FILE")]
    pub private_key_file: Option<PathBuf>,
    /// A note for people.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Requests in flight at most [default: delivery.max_in_flight].
    #[arg(long, value_name = "N", value_parser = parse::max_in_flight)]
    pub max_in_flight: Option<i32>,
    /// Requests per second at most [default: no limit].
    #[arg(long, value_name = "N", value_parser = parse::rate)]
    pub rate_limit: Option<i32>,
    /// Time for a whole request, like 10s [default: delivery.timeout].
    #[arg(long, value_name = "DURATION", value_parser = parse::timeout)]
    pub timeout: Option<Duration>,
    /// Name of a policy below [retry.policies] [default: [retry] itself].
    #[arg(long, value_name = "NAME", value_parser = parse::policy_name)]
    pub retry_policy: Option<String>,
    /// Extra header, 'Name: value'; may be repeated. Encrypted at rest.
    #[arg(long = "header", value_name = "HEADER")]
    pub headers: Vec<Header>,
    /// Client certificate to show the endpoint, a PEM file with its intermediates after it. Encrypted at rest.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub client_certificate: Option<PathBuf>,
    /// Its private key, a PEM file without a passphrase.
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    pub client_key: Option<PathBuf>,
    /// Authorities that the endpoint's certificate must come from, a PEM file; the system's do not count then.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// From now on the database is sealed with the first configured key, though the one before is lost.
    #[arg(long)]
    pub new_key: bool,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
#[group(id = "change", required = true, multiple = true, args = [
    "url", "event_types", "description", "max_in_flight", "rate_limit", "timeout", "retry_policy", "headers", "no_headers",
    "end_scheme", "client_certificate", "no_client_certificate", "ca", "no_ca",
])]
pub struct SetEndpoint {
    /// Id of the endpoint.
    #[arg(value_parser = parse::id)]
    pub id: Uuid,
    /// Where to send: https://host/path.
    #[arg(long)]
    pub url: Option<String>,
    /// Types to send, comma-separated; * is every type.
    #[arg(long, value_delimiter = ',', value_name = "TYPES", value_parser = parse::event_filter)]
    pub event_types: Option<Vec<String>>,
    /// A note for people; '' removes it.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Requests in flight at most; none is the default.
    #[arg(long, value_name = "N|none", value_parser = |text: &str| parse::setting(text, parse::max_in_flight))]
    pub max_in_flight: Option<Setting<i32>>,
    /// Requests per second at most; none is no limit.
    #[arg(long, value_name = "N|none", value_parser = |text: &str| parse::setting(text, parse::rate))]
    pub rate_limit: Option<Setting<i32>>,
    /// Time for a whole request, like 10s; none is the default.
    #[arg(long, value_name = "DURATION|none", value_parser = |text: &str| parse::setting(text, parse::timeout))]
    pub timeout: Option<Setting<Duration>>,
    /// Name of a policy below [retry.policies]; none is [retry] itself.
    #[arg(long, value_name = "NAME|none", value_parser = |text: &str| parse::setting(text, parse::policy_name))]
    pub retry_policy: Option<Setting<String>>,
    /// Extra header, 'Name: value'; may be repeated, and replaces all earlier ones.
    #[arg(long = "header", value_name = "HEADER")]
    pub headers: Vec<Header>,
    /// Remove all extra headers.
    #[arg(long, conflicts_with = "headers")]
    pub no_headers: bool,
    /// Client certificate to show the endpoint, a PEM file with its intermediates after it. Encrypted at rest.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub client_certificate: Option<PathBuf>,
    /// Its private key, a PEM file without a passphrase.
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    pub client_key: Option<PathBuf>,
    /// Authorities that the endpoint's certificate must come from, a PEM file; the system's do not count then.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Show it no client certificate.
    #[arg(long, conflicts_with_all = ["client_certificate", "client_key"])]
    pub no_client_certificate: bool,
    /// Trust the system's authorities again.
    #[arg(long, conflicts_with = "ca")]
    pub no_ca: bool,
    /// Stop signing by this scheme, at once; it must sign by the other one too.
    #[arg(long, value_name = "SCHEME")]
    pub end_scheme: Option<Scheme>,
    /// From now on the database is sealed with the first configured key, though the one before is lost.
    #[arg(long)]
    pub new_key: bool,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct ListEndpoints {
    /// Only those of this tenant.
    #[arg(long, value_parser = parse::tenant)]
    pub tenant: Option<String>,
    /// Rows at most.
    #[arg(long, value_name = "N", default_value = "100", value_parser = parse::limit)]
    pub limit: i64,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct RotateSecret {
    /// Id of the endpoint.
    #[arg(value_parser = parse::id)]
    pub id: Uuid,
    /// Which scheme gets a new key; it is added where it was not used [default: the one that is used, v1 if both].
    #[arg(long)]
    pub scheme: Option<Scheme>,
    /// Time that the old keys of the scheme keep signing.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse::grace)]
    pub grace: Duration,
    /// The new secret for v1, whsec_ and base64 [default: a new one].
    #[arg(long, value_name = "WHSEC", value_parser = parse::secret)]
    pub secret: Option<Secret>,
    /// A file with the new private key for v1a, whsk_ and base64; - is stdin [default: a new one].
    #[arg(long, value_name = "FILE")]
    pub private_key_file: Option<PathBuf>,
    /// From now on the database is sealed with the first configured key, though the one before is lost.
    #[arg(long)]
    pub new_key: bool,
    #[command(flatten)]
    pub output: Output,
}
