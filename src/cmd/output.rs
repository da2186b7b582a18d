//! Data goes to stdout: a table for people, one JSON value for programs.

use std::borrow::Cow;
use std::io::Write;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use super::failure::{Failure, Outcome};

/// One JSON value on a line of its own.
pub fn json(value: &impl Serialize) -> Outcome {
    let text = serde_json::to_string(value).map_err(|error| Failure::Failed(error.to_string()))?;
    line(&text)
}

pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Outcome {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    table.add_rows(rows.into_iter().map(|row| row.iter().map(|cell| plain(cell).into_owned()).collect::<Vec<_>>()));
    line(&table.trim_fmt())
}

/// Names and values, one pair a line.
pub fn pairs(pairs: &[(&str, String)]) -> Outcome {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = pairs.iter().map(|(name, value)| format!("{name:width$}  {}", plain(value))).collect();
    line(&lines.join("\n"))
}

/// A value as it may be shown. Tenants, types, notes and answers are what somebody else wrote: what a terminal would obey, or
/// what would change the order in which text is read, is shown as an escape.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return text.into();
    }
    let escaped = |c: char| if is_active(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect::<String>().into()
}

fn is_active(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A reader that has seen enough, such as `head`, is no failure.
pub fn line(text: &str) -> Outcome {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Failed(error.to_string())),
        _ => Ok(()),
    }
}

/// A dash for what is not set.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

pub fn time(value: chrono::DateTime<chrono::Utc>) -> String {
    value.format("%Y-%m-%d %H:%M:%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        assert_eq!(plain("a\u{1b}]0;title\u{7}\r\n\tb"), "a\\u{1b}]0;title\\u{7}\\r\\n\\tb");
        assert_eq!(plain("abc\u{9b}2J\u{202e}fdp"), "abc\\u{9b}2J\\u{202e}fdp");
        assert_eq!(plain("Zoë, 東京 \\ 🎉"), "Zoë, 東京 \\ 🎉");
    }

    proptest! {
        #[test]
        fn nothing_active_is_left_and_the_rest_stays(text in any::<String>()) {
            let shown = plain(&text);
            prop_assert!(!shown.contains(is_active));
            prop_assert!(text.contains(is_active) || shown == text);
        }
    }
}
