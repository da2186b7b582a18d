//! A process of ours that runs until it is stopped.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::signal;

/// Killed at the latest when it is dropped.
pub struct Process(Mutex<Child>);

impl Process {
    /// Its log, which is what it writes to stderr, goes there.
    pub fn start(mut command: Command, log: impl Into<Stdio>) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Process(Mutex::new(command.spawn().expect("the binary can be started")))
    }

    /// The child itself, for what is rarely needed.
    pub fn child(&self) -> MutexGuard<'_, Child> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn id(&self) -> u32 {
        self.child().id()
    }

    /// How it has ended; nothing while it runs.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Whether it was there to get the signal.
    pub fn signal(&self, number: libc::c_int) -> bool {
        self.ended().is_none() && signal(self.id(), number)
    }

    pub fn kill(&self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
