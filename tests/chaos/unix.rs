//! Signals, for which the standard library has no safe form.

#[derive(Debug, Clone, Copy)]
pub enum Signal {
    Interrupt,
    Quit,
    Kill,
    Terminate,
    Freeze,
    Continue,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Signal::Interrupt => libc::SIGINT,
            Signal::Quit => libc::SIGQUIT,
            Signal::Kill => libc::SIGKILL,
            Signal::Terminate => libc::SIGTERM,
            Signal::Freeze => libc::SIGSTOP,
            Signal::Continue => libc::SIGCONT,
        }
    }
}

/// Whether there was such a process.
pub fn signal(process: u32, signal: Signal) -> bool {
    // SAFETY: kill takes plain numbers; a process that is gone is an error, which is the answer.
    unsafe { libc::kill(process as libc::pid_t, signal.number()) == 0 }
}

/// To every process of the group that the process leads.
pub fn signal_group(leader: u32, signal: Signal) {
    // SAFETY: as above; a negative number names the group.
    unsafe { libc::kill(-(leader as libc::pid_t), signal.number()) };
}
