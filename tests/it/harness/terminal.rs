//! A terminal with somebody at it, for what a command asks and draws.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use super::stack::Done;
use super::unix;

/// Runs a command whose stdin and stderr are a terminal at which this is typed. What the terminal showed is in `stderr`.
pub fn at_a_terminal(mut command: Command, typed: &str) -> Done {
    let (person, program) = unix::terminal();
    let screen = program.try_clone().expect("a second descriptor of the terminal");
    let child =
        command.stdin(program).stderr(screen).stdout(Stdio::piped()).spawn().expect("the binary can be started");
    // It holds the program's side as well, and the screen ends when nobody does any more.
    drop(command);
    let mut person = File::from(person);
    person.write_all(typed.as_bytes()).expect("the terminal takes what is typed");
    let mut shown = Vec::new();
    // Linux ends a terminal that nobody holds any more with an error.
    let _ = person.read_to_end(&mut shown);
    let output = child.wait_with_output().expect("the command ends");
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&shown).into_owned(),
    }
}
