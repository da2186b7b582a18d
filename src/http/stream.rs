//! A connection as the HTTP client library takes it: TCP, TLS, or either of them through a tunnel.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whatever bytes can be written to and read from.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What is read before others have their turn, in bytes. The HTTP client library goes on for as long as there is something to
/// read: a receiver that sends one `100 Continue` after the other would have the thread for itself. The runtime looks at timers
/// and other connections once in 61 turns, so one has to be short.
const TURN: usize = 16 * 1024;
/// What is read since something was written, in bytes. A head may be 400 KiB, and of a body little more is read than is kept,
/// but the library counts neither `100 Continue` nor what it reads ahead. HTTP/2 has windows and limits of its own.
const MOST: usize = 2 * 1024 * 1024;

/// There is no end to what the server says.
#[derive(Debug, thiserror::Error)]
#[error("more than {MOST} bytes were read since the last ones were written")]
pub(super) struct Flood;

pub(super) struct Stream {
    io: Box<dyn Io>,
    /// The server has chosen HTTP/2 in the TLS handshake.
    is_h2: bool,
    /// Bytes since others had their turn.
    in_turn: usize,
    /// Bytes since something was written.
    in_answer: usize,
}

impl Stream {
    pub fn new(io: Box<dyn Io>, is_h2: bool) -> Stream {
        Stream { io, is_h2, in_turn: 0, in_answer: 0 }
    }

    fn wrote(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(1..)) = written {
            self.in_answer = 0;
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        if self.is_h2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.in_turn >= TURN {
            self.in_turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.in_answer > MOST && !self.is_h2 {
            return Poll::Ready(Err(io::Error::other(Flood)));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        self.in_turn = if read.is_pending() { 0 } else { self.in_turn + bytes };
        self.in_answer += bytes;
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Of a server that has sent this much: a stream to read from, and what one read after the other gives until it has to wait.
    async fn sent(bytes: usize) -> (tokio::io::DuplexStream, Stream) {
        let (mut server, client) = tokio::io::duplex(2 * bytes);
        server.write_all(&vec![0; bytes]).await.unwrap();
        (server, Stream::new(Box::new(client), false))
    }

    fn read_until_pending(stream: &mut Stream) -> io::Result<usize> {
        let (mut read, mut part) = (0, [0; 4096]);
        loop {
            let mut buf = ReadBuf::new(&mut part);
            match Pin::new(&mut *stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf) {
                Poll::Ready(result) => result?,
                Poll::Pending => return Ok(read),
            }
            read += buf.filled().len();
        }
    }

    async fn read_all(stream: &mut Stream) -> io::Result<usize> {
        let mut all = 0;
        for _ in 0..2 * MOST / TURN {
            all += read_until_pending(stream)?;
            tokio::task::yield_now().await;
        }
        Ok(all)
    }

    #[tokio::test]
    async fn others_have_their_turn_however_much_there_is_to_read() {
        let (_server, mut stream) = sent(4 * TURN).await;
        let turns: Vec<usize> = (0..5).map(|_| read_until_pending(&mut stream).unwrap()).collect();
        assert!(turns[..3].iter().all(|read| (TURN..TURN + 4096).contains(read)), "{turns:?}");
        assert_eq!(turns.iter().sum::<usize>(), 4 * TURN);
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_given_up_and_each_request_may_have_one() {
        let (mut server, mut stream) = sent(MOST).await;
        assert_eq!(read_all(&mut stream).await.unwrap(), MOST);
        stream.write_all(b"the next request").await.unwrap();
        server.write_all(&vec![0; MOST + 8192]).await.unwrap();
        let error = read_all(&mut stream).await.unwrap_err();
        assert!(error.get_ref().is_some_and(|inner| inner.is::<Flood>()), "{error:?}");
    }
}
