//! Reading the requests that come over one connection, as cheaply as it goes: what this program uses, the others lack.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use uuid::Uuid;

/// What the receiver wants to know of a request.
struct Head {
    id: Uuid,
    /// With its body.
    bytes: usize,
}

/// The `webhook-id` of the next request, once its body has come; nothing when the other side is gone, or speaks otherwise
/// than our client does.
pub async fn next(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Uuid> {
    let head = loop {
        if let Some(head) = head(buffer) {
            break head?;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    while buffer.len() < head.bytes {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    buffer.drain(..head.bytes);
    Some(head.id)
}

/// `None`: it has not ended yet. `Some(None)`: it has, without what every request of ours has.
fn head(buffer: &[u8]) -> Option<Option<Head>> {
    let (mut at, mut id, mut length) = (0, None, None);
    loop {
        let end = at + buffer[at..].iter().position(|byte| *byte == b'\n')?;
        let line = buffer[at..end].trim_ascii_end();
        at = end + 1;
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix(b"webhook-id: ") {
            id = Uuid::try_parse_ascii(value).ok();
        } else if let Some(value) = line.strip_prefix(b"content-length: ") {
            length = std::str::from_utf8(value).ok().and_then(|value| value.parse::<usize>().ok());
        }
    }
    Some(id.zip(length).map(|(id, length)| Head { id, bytes: at + length }))
}
