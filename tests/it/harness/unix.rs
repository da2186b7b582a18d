//! The calls for which the standard library has no safe form.

use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::null_mut;

/// Runs the hook when the process ends: the test runner has no place for what comes after the last test.
pub fn at_exit(hook: extern "C" fn()) {
    // SAFETY: the hook is a plain function that lives as long as the program.
    unsafe { libc::atexit(hook) };
}

/// A new pseudo-terminal: the side of the person at it, and the side of the program.
pub fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut person, mut program) = (-1, -1);
    // SAFETY: both numbers are written by the call and, when it succeeds, are descriptors that nobody else owns.
    unsafe {
        let failed = libc::openpty(&mut person, &mut program, null_mut(), null_mut(), null_mut());
        assert_eq!(failed, 0, "no pseudo-terminal: {}", std::io::Error::last_os_error());
        (OwnedFd::from_raw_fd(person), OwnedFd::from_raw_fd(program))
    }
}

/// As many open files as this process may ask for; those that it starts may have as many.
pub fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given a limit of our own, which lives longer than they take.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}
