//! The nodes of the broker as its management API describes them: what AMQP does not tell. For the doctor only; nothing that
//! delivers depends on it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::net::TcpStream;
use url::Url;

/// More than a large cluster says of itself.
const MOST_BYTES: usize = 4 * 1024 * 1024;
const COLUMNS: &str = "/api/nodes?columns=name,fd_total,fd_used,mem_alarm,disk_free_alarm";

/// A field that a version does not have is absent: RabbitMQ 4 counts no file handles.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Node {
    pub name: String,
    pub fd_total: Option<u64>,
    pub fd_used: Option<u64>,
    #[serde(default)]
    pub mem_alarm: bool,
    #[serde(default)]
    pub disk_free_alarm: bool,
}

/// All nodes, within the limit. The error never repeats the URL, which has a password.
pub async fn nodes(url: &SecretString, limit: Duration) -> Result<Vec<Node>, String> {
    let url = Url::parse(url.expose_secret()).map_err(|error| format!("is not a URL ({error})"))?;
    match tokio::time::timeout(limit, get(&url)).await {
        Ok(answer) => serde_json::from_slice(&answer?).map_err(|_| "its answer was not understood".to_owned()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

async fn get(url: &Url) -> Result<Bytes, String> {
    let text = |error: hyper::Error| error.to_string();
    let host = url.host_str().unwrap_or("localhost").trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(15_672);
    let stream = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let answering = async {
        let response = sender.send_request(request(url)?).await.map_err(text)?;
        match response.status() {
            StatusCode::OK => {}
            status => return Err(format!("it answered {status}")),
        }
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
        Ok(body.map_err(|error| error.to_string())?.to_bytes())
    };
    tokio::pin!(answering);
    // The connection does its work only while somebody waits for it. It may end before its last bytes were looked at.
    tokio::select! {
        biased;
        answer = &mut answering => answer,
        ended = connection => match ended {
            Ok(()) => answering.await,
            Err(error) => Err(text(error)),
        },
    }
}

fn request(url: &Url) -> Result<Request<Empty<Bytes>>, String> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let login = format!("{}:{}", decoded(url.username()), decoded(url.password().unwrap_or_default()));
    let path = format!("{}{COLUMNS}", url.path().trim_end_matches('/'));
    let request = Request::get(path)
        .header(HOST, url.authority().rsplit('@').next().unwrap_or_default())
        .header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(login)))
        .body(Empty::new());
    request.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_the_login_in_a_header_and_nowhere_else() {
        let url = Url::parse("http://us%40er:pa%3Ass@[::1]:15672/rabbit/").unwrap();
        let request = request(&url).unwrap();
        assert_eq!(request.uri().path(), "/rabbit/api/nodes");
        assert_eq!(request.headers()[HOST], "[::1]:15672");
        assert_eq!(request.headers()[AUTHORIZATION], format!("Basic {}", STANDARD.encode("us@er:pa:ss")));
    }

    #[test]
    fn a_node_without_file_handles_is_understood() {
        let nodes: Vec<Node> = serde_json::from_str(r#"[{"name": "rabbit@a", "mem_alarm": true}]"#).unwrap();
        assert_eq!((nodes[0].fd_total, nodes[0].mem_alarm, nodes[0].disk_free_alarm), (None, true, false));
    }

    /// Answers one request with this text, and closes.
    async fn answering(text: &'static str) -> SecretString {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://u:hunter2@{}", server.local_addr().unwrap());
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut stream, _) = server.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(text.as_bytes()).await.unwrap();
        });
        url.into()
    }

    #[tokio::test]
    async fn nodes_are_read_and_a_refusal_is_told_without_the_password() {
        let limit = Duration::from_secs(10);
        let body = r#"[{"name":"rabbit@a","fd_total":1024,"fd_used":90,"mem_alarm":false,"disk_free_alarm":false}]"#;
        let found = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        let read = nodes(&answering(found.leak()).await, limit).await.unwrap();
        assert_eq!((read[0].fd_total, read[0].fd_used), (Some(1_024), Some(90)));
        for (answer, said) in [
            ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "401"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "not understood"),
            ("", "closed"),
        ] {
            let refused = nodes(&answering(answer).await, limit).await.unwrap_err();
            assert!(refused.contains(said) && !refused.contains("hunter2"), "{refused}");
        }
    }
}
