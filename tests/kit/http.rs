//! A receiver's side of HTTP/1.1, by hand: it is cheap, since what a receiver uses the others lack, and it can fail in ways
//! that no well-behaved server library would.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the request that was read last.
    read: usize,
}

pub struct Request<'a> {
    pub head: &'a str,
    pub body: &'a [u8],
}

/// What a request is answered with.
pub enum Answer {
    Whole(Cow<'static, [u8]>),
    /// No answer ever.
    Hang,
    /// The connection is reset instead of an answer.
    Reset,
    /// The first part at once, then a byte of the second one now and then, without an end.
    Drip(Cow<'static, [u8]>, &'static [u8], Duration),
}

impl Request<'_> {
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a header, whose name is in small letters as our client writes it; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
    }
}

impl Connection {
    pub fn new(stream: TcpStream) -> Connection {
        Connection { stream, buffer: Vec::new(), read: 0 }
    }

    /// The next request; nothing when the other side is gone, or speaks otherwise than our client does.
    pub async fn next(&mut self) -> Option<Request<'_>> {
        self.buffer.drain(..std::mem::take(&mut self.read));
        let head = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let length: usize = request(&self.buffer, head)?.header("content-length").parse().ok()?;
        self.read = head + length;
        while self.buffer.len() < self.read {
            self.more().await?;
        }
        request(&self.buffer[..self.read], head)
    }

    async fn more(&mut self) -> Option<usize> {
        self.stream.read_buf(&mut self.buffer).await.ok().filter(|count| *count > 0)
    }

    /// An error: no further request is to be read.
    pub async fn answer(&mut self, answer: Answer) -> io::Result<()> {
        match answer {
            Answer::Whole(bytes) => self.stream.write_all(&bytes).await,
            Answer::Hang => {
                // Until the other side has had enough.
                while self.stream.read(&mut [0; 64]).await? > 0 {}
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Answer::Reset => {
                self.stream.set_zero_linger()?;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Answer::Drip(first, then, pause) => {
                self.stream.write_all(&first).await?;
                for byte in then.iter().cycle() {
                    self.stream.write_all(&[*byte]).await?;
                    // As slowly as it is meant to be.
                    tokio::time::sleep(pause).await;
                }
                Ok(())
            }
        }
    }
}

fn request(bytes: &[u8], head: usize) -> Option<Request<'_>> {
    let (head, body) = bytes.split_at(head);
    Some(Request { head: std::str::from_utf8(head).ok()?, body })
}
