//! Signs a body for trying out a receiver: prints the three headers.
//!
//! ```sh
//! printf '{"order":"1","version":1,"state":"new"}' > body.json
//! KEY=whsec_... cargo run --quiet --example sign-webhook evt_1 < body.json > headers.txt
//! curl -H @headers.txt --data-binary @body.json http://127.0.0.1:8080/hooks
//! ```
//!
//! With a `whsk_` key, the signature is a `v1a`.

use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use posthaste::domain::key_pair::{PRIVATE_PREFIX, PrivateKey};
use posthaste::domain::signature::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, Secret, Sign};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let id = std::env::args().nth(1).ok_or("give the event's id")?;
    let key = std::env::var("KEY")?;
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body)?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let signature = if key.starts_with(PRIVATE_PREFIX) {
        PrivateKey::parse(&key)?.sign(&id, now, &body)
    } else {
        Secret::parse(&key)?.sign(&id, now, &body)
    };
    println!("{HEADER_ID}: {id}\n{HEADER_TIMESTAMP}: {now}\n{HEADER_SIGNATURE}: {signature}");
    Ok(())
}
