//! Reading the requests that come over one connection.

use http::HeaderMap;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

pub struct Request {
    /// The path is a number: `/3`.
    pub endpoint: usize,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// The next request; nothing when the other side is gone, or speaks otherwise than our client does.
pub async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..end + 4).collect()).ok()?;
    let mut lines = head.trim_end().split("\r\n");
    let endpoint = lines.next()?.split(' ').nth(1)?.trim_start_matches('/').parse().ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.insert(http::HeaderName::from_bytes(name.as_bytes()).ok()?, value.parse().ok()?);
    }
    let length: usize = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer.drain(..length).collect();
    Some(Request { endpoint, headers, body })
}
