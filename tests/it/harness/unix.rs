//! The two calls for which the standard library has no safe form.

pub fn terminate(process: u32) {
    // SAFETY: kill takes plain numbers. The process is a child that was not waited for, so its id is still its own.
    unsafe { libc::kill(process as libc::pid_t, libc::SIGTERM) };
}

/// Runs the hook when the process ends: the test runner has no place for what comes after the last test.
pub fn at_exit(hook: extern "C" fn()) {
    // SAFETY: the hook is a plain function that lives as long as the program.
    unsafe { libc::atexit(hook) };
}
