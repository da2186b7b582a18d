//! The keys that an endpoint is signed for with: new ones, the end of old ones, and the public halves.

use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::compose;
use super::super::failure::{Failure, Outcome};
use super::super::output;
use super::known::existing;
use super::sealing::{self, new_key_pair, new_secret, seal};
use crate::cli::{RotateSecret, Scheme};
use crate::config::Config;
use crate::domain::key_pair::{PrivateKey, PublicKey};
use crate::domain::sealing::Key;
use crate::domain::signature::Secret;
use crate::domain::signing_key::{Kind, SigningKey};
use crate::store::Db;
use crate::store::secrets::{self, Live, Sealed};

fn kind(scheme: Scheme) -> Kind {
    match scheme {
        Scheme::V1 => Kind::Whsec,
        Scheme::V1a => Kind::Whsk,
    }
}

/// Keys that somebody brings, in place of new ones.
pub struct Given {
    secret: Option<Secret>,
    pair: Option<PrivateKey>,
}

impl Given {
    /// Those that are given must be for one of the schemes. A private key never stands on the command line, where others can
    /// read it.
    pub fn read(schemes: &[Scheme], secret: Option<Secret>, private_key_file: Option<&Path>) -> Result<Given, Failure> {
        let unwanted = |flag: &str, scheme: &str| {
            let text = format!("{flag}: is for the scheme {scheme}; leave it out, or name {scheme} with --scheme");
            Err(Failure::Usage(text))
        };
        if secret.is_some() && !schemes.contains(&Scheme::V1) {
            return unwanted("secret", "v1");
        }
        if private_key_file.is_some() && !schemes.contains(&Scheme::V1a) {
            return unwanted("private-key-file", "v1a");
        }
        Ok(Given { secret, pair: private_key_file.map(private_key).transpose()? })
    }

    fn secret(&mut self) -> Result<SigningKey, Failure> {
        self.secret.take().map_or_else(new_secret, Ok).map(SigningKey::Secret)
    }

    fn pair(&mut self) -> Result<SigningKey, Failure> {
        self.pair.take().map_or_else(new_key_pair, Ok).map(SigningKey::Pair)
    }
}

fn private_key(file: &Path) -> Result<PrivateKey, Failure> {
    /// More than the longest one, with white space.
    const MOST: u64 = 1024;
    let unreadable = |error: std::io::Error| Failure::Usage(format!("private-key-file: cannot be read ({error})"));
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(MOST).read_to_string(&mut text).map_err(unreadable)?;
    } else {
        let file = std::fs::File::open(file).map_err(unreadable)?;
        file.take(MOST).read_to_string(&mut text).map_err(unreadable)?;
    }
    PrivateKey::parse(text.trim()).map_err(|error| Failure::Usage(format!("private-key-file: {error}")))
}

/// A key for each scheme of a new endpoint, and the same sealed.
pub fn first(
    key: &Key,
    endpoint: Uuid,
    schemes: &[Scheme],
    mut given: Given,
) -> Result<(Vec<SigningKey>, Vec<Sealed>), Failure> {
    let mut keys = Vec::new();
    if schemes.contains(&Scheme::V1) {
        keys.push(given.secret()?);
    }
    if schemes.contains(&Scheme::V1a) {
        keys.push(given.pair()?);
    }
    let sealed = keys.iter().map(|new| sealed(key, endpoint, new)).collect::<Result<_, _>>()?;
    Ok((keys, sealed))
}

fn sealed(key: &Key, endpoint: Uuid, new: &SigningKey) -> Result<Sealed, Failure> {
    Ok(Sealed {
        kind: new.kind().as_str(),
        key_id: key.id(),
        ciphertext: seal(key, endpoint, new.as_bytes())?,
        public_key: public(new).map(|public| public.to_string()),
    })
}

fn public(key: &SigningKey) -> Option<PublicKey> {
    match key {
        SigningKey::Secret(_) => None,
        SigningKey::Pair(pair) => Some(pair.public()),
    }
}

/// What the receiver needs of a new key, for people.
pub fn told(key: &SigningKey) -> (&'static str, String) {
    match key {
        SigningKey::Secret(secret) => ("secret", format!("{}  (shown this once)", secret.reveal())),
        SigningKey::Pair(pair) => ("public key", pair.public().to_string()),
    }
}

/// The same, for programs.
pub fn tell(value: &mut Value, key: &SigningKey) {
    match key {
        SigningKey::Secret(secret) => value["secret"] = json!(secret.reveal()),
        SigningKey::Pair(pair) => value["public_key"] = json!(pair.public().to_string()),
    }
}

pub async fn rotate(config: &Config, args: RotateSecret) -> Outcome {
    let db = compose::command_db(config)?;
    existing(&db, args.id).await?;
    let scheme = match args.scheme {
        Some(scheme) => scheme,
        None => used(&secrets::live(&db, args.id).await?),
    };
    let mut given = Given::read(&[scheme], args.secret, args.private_key_file.as_deref())?;
    let key = sealing::key(config, &db, args.new_key).await?;
    let new = match scheme {
        Scheme::V1 => given.secret()?,
        Scheme::V1a => given.pair()?,
    };
    secrets::rotate(&db, args.id, &sealed(&key, args.id, &new)?, args.grace).await?;
    let live = secrets::live(&db, args.id).await?.len();
    if args.output.json {
        let mut value = json!({"id": args.id, "live_secrets": live, "grace_seconds": args.grace.as_secs()});
        tell(&mut value, &new);
        return output::json(&value);
    }
    output::pairs(&[
        told(&new),
        ("live secrets", live.to_string()),
        ("old ones sign for", humantime::format_duration(args.grace).to_string()),
    ])
}

/// The scheme that an endpoint is signed for by, v1 if by both.
fn used(live: &[Live]) -> Scheme {
    let is_asymmetric = |key: &Live| key.kind == Kind::Whsk.as_str();
    if !live.is_empty() && live.iter().all(is_asymmetric) { Scheme::V1a } else { Scheme::V1 }
}

pub async fn end(db: &Db, endpoint: Uuid, scheme: Scheme) -> Outcome {
    let kind = kind(scheme).as_str();
    if secrets::end(db, endpoint, kind).await? > 0 {
        return Ok(());
    }
    let is_used = secrets::live(db, endpoint).await?.iter().any(|key| key.kind == kind);
    if !is_used {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "endpoint {endpoint}: is signed for by no other scheme; add one with `posthaste endpoint rotate-secret --scheme` first"
    )))
}

pub async fn jwks(config: &Config, endpoint: Uuid) -> Outcome {
    let db = compose::command_db(config)?;
    existing(&db, endpoint).await?;
    output::json(&jwk_set(&secrets::live(&db, endpoint).await?)?)
}

/// RFC 7517, with the keys of RFC 8037.
pub fn jwk_set(live: &[Live]) -> Result<Value, Failure> {
    let texts = live.iter().filter_map(|key| key.public_key.as_deref());
    let keys = texts.map(|text| PublicKey::parse(text).map(|key| jwk(&key)));
    let keys = keys.collect::<Result<Vec<Value>, _>>().map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(json!({"keys": keys}))
}

fn jwk(key: &PublicKey) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "x": key.jwk_x(), "kid": key.thumbprint(), "alg": "EdDSA", "use": "sig"})
}
