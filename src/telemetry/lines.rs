//! Log lines on their way to whoever reads them. Nobody ever waits for that: what does not fit is dropped and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use super::metrics;

/// Lines that wait at most.
const WAITING: usize = 8192;
/// A flush looks again this often whether there is room for its question.
const AGAIN: Duration = Duration::from_millis(5);

enum Entry {
    Line(Vec<u8>),
    /// Everything before it was written.
    Flushed(SyncSender<()>),
}

/// Cheap to clone. A thread of its own does the writing.
#[derive(Clone)]
pub(super) struct Lines {
    waiting: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    pub fn to(sink: impl Write + Send + 'static) -> io::Result<Lines> {
        let (waiting, entries) = sync_channel(WAITING);
        let lines = Lines { waiting, dropped: Arc::default() };
        let dropped = lines.dropped.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || write(sink, &entries, &dropped))?;
        Ok(lines)
    }

    pub fn add(&self, line: &[u8]) {
        if let Err(TrySendError::Full(_)) = self.waiting.try_send(Entry::Line(line.to_vec())) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            metrics::log_line_dropped();
        }
    }

    /// Waits until everything that was added before is written, at most this long.
    pub fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let (sender, flushed) = sync_channel(1);
        let mut question = Entry::Flushed(sender);
        while let Err(TrySendError::Full(back)) = self.waiting.try_send(question) {
            if Instant::now() >= until {
                return;
            }
            question = back;
            std::thread::sleep(AGAIN);
        }
        let _ = flushed.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

fn write(mut sink: impl Write, entries: &Receiver<Entry>, dropped: &AtomicU64) {
    while let Ok(entry) = entries.recv() {
        match entry {
            // Whoever reads may have gone; the next one may come.
            Entry::Line(line) => drop(sink.write_all(&line)),
            Entry::Flushed(sender) => drop(sink.flush().map(|()| sender.try_send(()))),
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            // A line like any other, which goes the way of the others.
            tracing::warn!(lines = lost, "log lines were dropped: what reads them did not keep up");
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// One line, written as a whole.
pub(super) struct Line<'a>(&'a Lines);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender;

    use super::*;

    /// Takes a piece when it is allowed to.
    struct Gate {
        allowed: Receiver<()>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // The end of the test lets everything through.
            let _ = self.allowed.recv();
            let _ = self.taken.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_in_order_and_a_flush_waits_for_them() {
        let (taken, written) = std::sync::mpsc::channel();
        let (allow, allowed) = std::sync::mpsc::channel();
        let lines = Lines::to(Gate { allowed, taken }).unwrap();
        for n in 0..100 {
            lines.add(format!("{n}\n").as_bytes());
        }
        drop(allow);
        lines.flush(Duration::from_secs(30));
        let all: Vec<u8> = written.try_iter().flatten().collect();
        let expected: String = (0..100).map(|n| format!("{n}\n")).collect();
        assert_eq!(String::from_utf8(all).unwrap(), expected);
    }

    #[test]
    fn what_nobody_reads_is_dropped_and_counted_and_nobody_waits() {
        let (taken, written) = std::sync::mpsc::channel();
        let (allow, allowed) = std::sync::mpsc::channel();
        let lines = Lines::to(Gate { allowed, taken }).unwrap();
        let many = WAITING as u64 + 500;
        for _ in 0..many {
            lines.add(b"x");
        }
        let dropped = lines.dropped.load(Ordering::Relaxed);
        assert!((499..=500).contains(&dropped), "{dropped}: one may be in the writer's hands");
        lines.flush(Duration::from_millis(20));
        drop(allow);
        lines.flush(Duration::from_secs(30));
        assert_eq!(written.try_iter().count() as u64, many - dropped);
        assert_eq!(lines.dropped.load(Ordering::Relaxed), 0, "the writer has said so");
    }
}
