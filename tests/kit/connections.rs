//! Connections to us.

use tokio::net::{TcpListener, TcpStream};

/// On a free port. It is for a runtime that may not be there yet.
pub fn listener() -> std::net::TcpListener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a listener that does not block");
    listener
}

/// Serves each connection in a task of its own.
pub async fn accept<F: Future<Output = ()> + Send + 'static>(listener: TcpListener, serve: impl Fn(TcpStream) -> F) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            // What is said is small, and must not wait for more.
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream));
        }
    }
}
