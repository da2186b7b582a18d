//! A proxy in front of a server, to stall or to cut its connections.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::in_a_thread;
use crate::kit::proxy::{self, Mode, Passed, Servers, Wire};

/// Runs in a thread of its own until it is dropped.
pub struct Proxy {
    proxy: proxy::Proxy,
    word: Option<&'static str>,
    muted: Arc<AtomicBool>,
}

impl Proxy {
    /// To the server of this URL.
    pub fn to(url: &str) -> Proxy {
        Proxy::start(url, None)
    }

    /// Only connections whose client says this word are ever stalled or cut.
    pub fn of(word: &'static str, url: &str) -> Proxy {
        Proxy::start(url, Some(word))
    }

    fn start(url: &str, word: Option<&'static str>) -> Proxy {
        let muted = Arc::new(AtomicBool::new(false));
        let mute = muted.clone();
        let wire = move || Ear { word, said: AtomicBool::new(word.is_none()), muted: mute.clone() };
        let (proxy, serving) = proxy::Proxy::to(Servers::of(&[url]), wire);
        in_a_thread(serving);
        Proxy { proxy, word, muted }
    }

    /// The URL of the server by way of the proxy.
    pub fn url(&self, url: &str) -> String {
        let mut url = url::Url::parse(&self.proxy.url(url)).expect("the URL of a server");
        if self.word.is_some() {
            // A word cannot be heard through TLS.
            url.query_pairs_mut().append_pair("sslmode", "disable");
        }
        url.into()
    }

    pub fn stall(&self) {
        self.proxy.set(Mode::Swallow);
    }

    /// What clients say comes through, and the server's answers never do.
    pub fn mute(&self) {
        self.muted.store(true, Ordering::Relaxed);
    }

    pub fn cut(&self) {
        self.proxy.set(Mode::Cut);
    }

    pub fn forward(&self) {
        self.muted.store(false, Ordering::Relaxed);
        self.proxy.set(Mode::Forward);
    }
}

/// Waits for the word.
struct Ear {
    word: Option<&'static str>,
    said: AtomicBool,
    muted: Arc<AtomicBool>,
}

impl Wire for Ear {
    fn is_meant(&self) -> bool {
        self.said.load(Ordering::Relaxed)
    }

    fn asked(&self, bytes: &[u8]) {
        if self.word.is_some_and(|word| bytes.windows(word.len()).any(|part| part == word.as_bytes())) {
            self.said.store(true, Ordering::Relaxed);
        }
    }

    fn answered<'a>(&self, bytes: &'a [u8]) -> Passed<'a> {
        let lost = self.is_meant() && self.muted.load(Ordering::Relaxed);
        ControlFlow::Continue(if lost { Cow::default() } else { Cow::Borrowed(bytes) })
    }
}
