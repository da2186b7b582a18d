//! How a broker introduces itself, before anybody has logged in: product and version stand in its first frame, which lapin keeps
//! to itself.

use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Settings;

const HELLO: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
/// More than any broker says of itself.
const MOST: usize = 16 * 1024;

/// The version, as the broker gives it. `None`: it did not say, or would only say it by TLS.
pub async fn version(settings: &Settings) -> Option<String> {
    let uri: AMQPUri = settings.url.expose_secret().parse().ok()?;
    if uri.scheme == AMQPScheme::AMQPS {
        return None;
    }
    let limit: Duration = settings.operation_timeout;
    let address = (uri.authority.host.as_str(), uri.authority.port);
    let greeting = tokio::time::timeout(limit, greeting(address)).await.ok()?.ok()?;
    text_of(&greeting, "version")
}

async fn greeting(address: (&str, u16)) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(HELLO).await?;
    // Type, channel and length.
    let mut head = [0; 7];
    stream.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    let mut frame = vec![0; length.min(MOST)];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

/// The value of a long text in a field table: the length of the name, the name, `S`, the length of the value, the value.
fn text_of(frame: &[u8], name: &str) -> Option<String> {
    let key = [&[name.len() as u8], name.as_bytes(), b"S"].concat();
    let at = frame.windows(key.len()).position(|window| window == key)? + key.len();
    let (length, rest) = frame.get(at..)?.split_first_chunk::<4>()?;
    let value = rest.get(..u32::from_be_bytes(*length) as usize)?;
    std::str::from_utf8(value).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_and_a_frame_that_is_cut_is_no_reason_to_panic() {
        let frame = b"\x00\x0a\x00\x0a\x00\x09\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x063.10.8";
        assert_eq!(text_of(frame, "version").as_deref(), Some("3.10.8"));
        for end in 0..frame.len() {
            assert_eq!(text_of(&frame[..end], "version"), None, "{end}");
        }
        assert_eq!(text_of(frame, "platform"), None);
    }
}
