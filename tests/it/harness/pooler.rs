//! A connection pooler in front of PostgreSQL, as small as one can be: each client brings a session at the server, and has
//! it for itself until the pooler is told to share. From then on a session is lent for one transaction at a time. It keeps
//! no account of prepared statements, so it shares only the sessions of clients with one name.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::kit::proxy::by_way_of;

const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// Its threads end with the connections of its clients.
pub struct Pooler {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: (String, u16),
    /// The `application_name` of those that share.
    name: &'static str,
    shares: AtomicBool,
    drops_settings: AtomicBool,
    /// Lent in turn.
    idle: Mutex<VecDeque<TcpStream>>,
    returned: Condvar,
}

impl Pooler {
    pub fn of(name: &'static str, url: &str) -> Pooler {
        let url = url::Url::parse(url).expect("the URL of a server");
        let server = (url.host_str().expect("a host").to_owned(), url.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (shares, drops_settings, idle) = (AtomicBool::new(false), AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { server, name, shares, drops_settings, idle, returned: Condvar::new() });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = accepting.clone();
                std::thread::spawn(move || shared.serve(client));
            }
        });
        Pooler { address, shared }
    }

    /// The URL of the server by way of the pooler.
    pub fn url(&self, url: &str) -> String {
        by_way_of(self.address.port(), url)
    }

    pub fn share(&self) {
        self.shared.shares.store(true, Ordering::SeqCst);
    }

    /// As PgBouncer does where it is told to ignore what it does not know.
    pub fn drop_settings(&self) {
        self.shared.drops_settings.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) {
        let Ok((server, shareable)) = self.greet(&mut client) else { return };
        let _ = self.lend(&mut client, server, shareable);
    }

    /// The start of a session is the client's own.
    fn greet(&self, client: &mut TcpStream) -> io::Result<(TcpStream, bool)> {
        let mut start = untyped(client)?;
        while start[4..] == SSL_REQUEST {
            client.write_all(b"N")?;
            start = untyped(client)?;
        }
        if self.drops_settings.load(Ordering::SeqCst) {
            start = without_options(&start);
        }
        let name = [b"application_name\0", self.name.as_bytes(), b"\0"].concat();
        let shareable = start.windows(name.len()).any(|part| part == name);
        let mut server = TcpStream::connect((self.server.0.as_str(), self.server.1))?;
        server.write_all(&start)?;
        loop {
            let message = typed(&mut server)?;
            client.write_all(&message)?;
            let asks = message[0] == b'R' && ![0, 12].contains(&message[8]);
            match message[0] {
                b'Z' => return Ok((server, shareable)),
                _ if asks => server.write_all(&typed(client)?)?,
                _ => {}
            }
        }
    }

    fn lend(&self, client: &mut TcpStream, own: TcpStream, shareable: bool) -> io::Result<()> {
        let mut server = Some(own);
        loop {
            if shareable
                && self.shares.load(Ordering::SeqCst)
                && let Some(server) = server.take()
            {
                self.give_back(server);
            }
            let mut message = typed(client)?;
            let mut lent = server.take().unwrap_or_else(|| self.take());
            // Until the server is ready for another transaction.
            loop {
                lent.write_all(&message)?;
                if (message[0] == b'S' || message[0] == b'Q') && answered(&mut lent, client)? == b'I' {
                    break;
                }
                message = typed(client)?;
            }
            server = Some(lent);
        }
    }

    fn give_back(&self, server: TcpStream) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push_back(server);
        self.returned.notify_one();
    }

    fn take(&self) -> TcpStream {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(server) = idle.pop_front() {
                return server;
            }
            idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Passes on an answer; the state of the session after it.
fn answered(server: &mut TcpStream, client: &mut TcpStream) -> io::Result<u8> {
    loop {
        let message = typed(server)?;
        client.write_all(&message)?;
        if message[0] == b'Z' {
            return Ok(message[5]);
        }
    }
}

/// A session's first message: its length, the version, then names and values, each of which ends with a zero.
fn without_options(start: &[u8]) -> Vec<u8> {
    let texts: Vec<&[u8]> = start[8..].split(|byte| *byte == 0).take_while(|text| !text.is_empty()).collect();
    let kept = texts.chunks(2).filter(|pair| pair[0] != b"options").flatten();
    let kept: Vec<u8> = kept.flat_map(|text| [*text, &[0][..]].concat()).chain([0]).collect();
    [&(kept.len() as u32 + 8).to_be_bytes()[..], &start[4..8], &kept].concat()
}

fn untyped(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 4];
    from.read_exact(&mut message)?;
    let length = u32::from_be_bytes([message[0], message[1], message[2], message[3]]) as usize;
    message.resize(length.max(8), 0);
    from.read_exact(&mut message[4..])?;
    Ok(message)
}

fn typed(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut kind = [0];
    from.read_exact(&mut kind)?;
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut message = [&kind[..], &length].concat();
    let size = u32::from_be_bytes(length).max(4) as usize;
    message.resize(1 + size, 0);
    from.read_exact(&mut message[5..])?;
    Ok(message)
}
