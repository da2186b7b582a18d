//! Asking before something is destroyed.

use std::io::{BufRead, IsTerminal, Write};

use super::failure::{Failure, Outcome};
use super::output;

/// Goes on with `--yes`, or when somebody at a terminal agrees. Without a terminal there is nobody to ask.
pub fn ask(question: &str, yes: bool) -> Outcome {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("{question} Nobody can be asked here: add --yes")));
    }
    eprint!("{} [y/N] ", output::plain(question));
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::Failed("nothing was changed".into()))
}
