//! Blanks what is not code. Offsets and line numbers stay what they were.

use super::source::{name_at, words};

pub struct TestModule {
    pub name: String,
    /// The value of its `#[path]`.
    pub path: Option<String>,
}

/// The text with comments, and what is between the quotes of literals, replaced by spaces.
pub fn code(raw: &str) -> String {
    let mut bytes = raw.as_bytes().to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (end, keep) = match &raw.as_bytes()[at..] {
            [b'/', b'/', ..] => (raw[at..].find('\n').map_or(raw.len(), |end| at + end), 0),
            [b'/', b'*', ..] => (block_comment(raw, at), 0),
            [b'"', ..] => (string(raw, at), 1),
            [b'r', b'"' | b'#', ..] if !follows_name(raw, at) => (raw_string(raw, at), 1),
            [b'b' | b'c', b'r', b'"' | b'#', ..] if !follows_name(raw, at) => (raw_string(raw, at + 1), 1),
            [b'\'', ..] => (character(raw, at), 1),
            _ => (at + 1, 1),
        };
        if end > at + 1 {
            blank(&mut bytes[at + keep..end - keep]);
        }
        at = end;
    }
    String::from_utf8(bytes).expect("only whole literals and comments were blanked")
}

fn blank(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
}

fn follows_name(raw: &str, at: usize) -> bool {
    let before = at.checked_sub(1).map(|at| raw.as_bytes()[at]);
    before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn block_comment(raw: &str, start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < raw.len() {
        match &raw.as_bytes()[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    raw.len()
}

fn string(raw: &str, start: usize) -> usize {
    let mut at = start + 1;
    while at < raw.len() {
        match raw.as_bytes()[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    raw.len()
}

/// `start` is at the `r`. A raw name such as `r#type` is no literal.
fn raw_string(raw: &str, start: usize) -> usize {
    let hashes = raw[start + 1..].bytes().take_while(|byte| *byte == b'#').count();
    let quote = start + 1 + hashes;
    if raw.as_bytes().get(quote) != Some(&b'"') {
        return start + 1;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    raw[quote + 1..].find(&end).map_or(raw.len(), |at| quote + 1 + at + end.len())
}

/// A character literal, or one byte of a lifetime.
fn character(raw: &str, start: usize) -> usize {
    let mut rest = raw[start + 1..].char_indices();
    match (rest.next(), rest.next()) {
        (Some((_, '\\')), _) => raw[start + 3..].find('\'').map_or(raw.len(), |at| start + 3 + at + 1),
        (Some(_), Some((at, '\''))) => start + 1 + at + 1,
        _ => start + 1,
    }
}

/// Masked code without the items that only tests have.
pub fn without_tests(code: &str) -> String {
    let mut bytes = code.as_bytes().to_vec();
    for (attribute, item) in test_items(code) {
        blank(&mut bytes[attribute..item_end(code, item)]);
    }
    String::from_utf8(bytes).expect("code that was masked has only whole characters between items")
}

/// The modules in files of their own that only tests have.
pub fn test_modules(raw: &str, code: &str) -> Vec<TestModule> {
    let mut modules = Vec::new();
    for (_, item) in test_items(code) {
        let end = item_end(code, item);
        let text = &code[item..end];
        if let (Some(at), true) = (words(text, "mod").next(), text.ends_with(';')) {
            let path = raw[item..end].split_once("#[path = \"").and_then(|(_, rest)| rest.split_once('"'));
            let name = name_at(text[at + 3..].trim_start()).to_owned();
            modules.push(TestModule { name, path: path.map(|(path, _)| path.to_owned()) });
        }
    }
    modules
}

/// Where the attribute of each test item begins and ends.
fn test_items(code: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    code.match_indices("#[cfg(").filter_map(|(at, _)| {
        let end = at + code[at..].find(']')? + 1;
        let condition = &code[at + 6..end];
        let for_tests = words(condition, "test").next().is_some() && !condition.contains("not(");
        for_tests.then_some((at, end))
    })
}

/// The end of the item that begins at `start`: its semicolon, or the brace that closes its body.
pub fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if (depth == 0 && (byte == b';' || byte == b'}')) || depth < 0 {
            return at + 1;
        }
    }
    code.len()
}
