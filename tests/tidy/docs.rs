//! Documents and scripts: links lead somewhere, and the commands that they show exist.

use super::source::{Text, Tree, Violation};

/// A piece of a document or a script in which commands are written, with the line where it begins.
struct Snippet {
    line: usize,
    text: String,
}

/// Files of ours that a document names, outside the record of decisions and of changes: those are about their day.
pub fn named_files_exist(tree: &Tree) -> Vec<Violation> {
    let is_past = |path: &str| path.starts_with("docs/decisions/") || path == "CHANGELOG.md";
    let mut violations = Vec::new();
    for text in tree.texts.iter().filter(|text| text.is_markdown() && !is_past(&text.path)) {
        for (number, line) in text.text.lines().enumerate() {
            let named = line.split('`').skip(1).step_by(2);
            let ours = named.filter(|name| ["src/", "tests/"].iter().any(|start| name.starts_with(start)));
            for name in ours.filter(|name| !tree.paths.contains(name.trim_end_matches('/'))) {
                violations.push(text.violation(number + 1, format!("there is no `{name}`")));
            }
        }
    }
    violations
}

pub fn links_lead_somewhere(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for text in tree.texts.iter().filter(|text| text.is_markdown()) {
        for (line, target) in links(&text.text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { Some(text.path.clone()) } else { resolve(&text.path, path) };
            match file.filter(|file| file.is_empty() || tree.paths.contains(file)) {
                None => violations.push(text.violation(line, format!("the link `{target}` leads nowhere"))),
                Some(file) if !anchor.is_empty() && !has_heading(tree, &file, anchor) => {
                    violations.push(text.violation(line, format!("`{file}` has no heading `#{anchor}`")));
                }
                Some(_) => {}
            }
        }
    }
    violations
}

/// The targets of `[text](target)`, outside of code.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (line, content) in prose(text) {
        for (at, _) in content.match_indices("](") {
            let in_code = content[..at].matches('`').count() % 2 == 1;
            let Some((target, _)) = content[at + 2..].split_once(')') else { continue };
            if !in_code {
                found.push((line, target.split_whitespace().next().unwrap_or("")));
            }
        }
    }
    found
}

/// The lines of a document outside of fenced code.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence
    })
}

/// A relative path from the folder of `from`. `None`: it leaves the project.
fn resolve(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

pub fn has_heading(tree: &Tree, file: &str, anchor: &str) -> bool {
    let Some(text) = tree.texts.iter().find(|text| text.path == file && text.is_markdown()) else { return true };
    let headings = prose(&text.text).filter_map(|(_, line)| line.strip_prefix('#'));
    headings.map(|heading| slug(heading.trim_start_matches('#').trim())).any(|slug| slug == anchor)
}

/// As GitHub makes them.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Every `posthaste <command>` names a sub-command, and every option after it is one of that command.
pub fn commands_exist(tree: &Tree, cli: &clap::Command) -> Vec<Violation> {
    let mut violations = Vec::new();
    for text in &tree.texts {
        for snippet in snippets(text) {
            for (offset, arguments) in invocations(&snippet.text) {
                let line = snippet.line + snippet.text[..offset].matches('\n').count();
                if let Err(problem) = check(cli, &arguments) {
                    violations.push(text.violation(line, problem));
                }
            }
        }
    }
    violations
}

fn snippets(text: &Text) -> Vec<Snippet> {
    if !text.is_markdown() {
        return vec![Snippet { line: 1, text: text.text.clone() }];
    }
    let mut found: Vec<Snippet> = Vec::new();
    for (line, content) in prose(&text.text) {
        let spans = content.split('`').skip(1).step_by(2);
        found.extend(spans.map(|span| Snippet { line, text: span.to_owned() }));
    }
    let mut fence: Option<Snippet> = None;
    for (at, line) in text.text.lines().enumerate() {
        match (&mut fence, line.trim_start().starts_with("```")) {
            (None, true) => fence = Some(Snippet { line: at + 2, text: String::new() }),
            (Some(_), true) => found.extend(fence.take()),
            (Some(code), false) => code.text.extend([line, "\n"]),
            (None, false) => {}
        }
    }
    found
}

/// The words after each `posthaste` that stands where a command can stand, up to the end of that command.
fn invocations(text: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (at, name) in text.match_indices("posthaste") {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        if !after.starts_with(' ') || !is_command_position(before) {
            continue;
        }
        let mut arguments = Vec::new();
        for word in after.replace("\\\n", " ").lines().next().unwrap_or("").split_whitespace() {
            let end = word.find([';', '|', '&', '`', ')', '>', '<', '#']).unwrap_or(word.len());
            let plain = word[..end].trim_matches(['"', '\'', '.', ',', ':', '[', ']']);
            arguments.push(plain.to_owned());
            if end < word.len() {
                break;
            }
        }
        found.push((at, arguments));
    }
    found
}

fn is_command_position(before: &str) -> bool {
    const LEADS: [&str; 10] = ["exec", "then", "do", "if", "else", "while", "run", "time", "nohup", "sudo"];
    let line = before.rsplit('\n').next().unwrap_or("");
    // A path to the program is fine; `db=posthaste` or `--name=posthaste` is no command.
    let line = line.trim_end_matches(|c: char| c == '/' || c == '.' || c == '_' || c.is_alphanumeric() || c == '$');
    let path = &before[before.len() - (before.rsplit('\n').next().unwrap_or("").len() - line.len())..];
    if !path.is_empty() && !path.ends_with('/') {
        return false;
    }
    if !line.is_empty() && !line.ends_with([' ', '\t', '"', '\'', '(', '`']) {
        return false;
    }
    let previous = line.split_whitespace().next_back().unwrap_or("");
    previous.is_empty() || previous.ends_with(|c: char| !c.is_alphanumeric()) || LEADS.contains(&previous)
}

fn check(cli: &clap::Command, arguments: &[String]) -> Result<(), String> {
    let mut path = vec![cli];
    let mut spoken = vec!["posthaste".to_owned()];
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let command = path[path.len() - 1];
        if let Some(option) = word.strip_prefix("--") {
            let name = option.split('=').next().unwrap_or(option);
            if name.is_empty() {
                return Ok(());
            }
            let takes_value =
                find_option(&path, name).ok_or_else(|| format!("`{}` has no option `--{name}`", spoken.join(" ")))?;
            if takes_value && !option.contains('=') {
                words.next();
            }
        } else if command.has_subcommands() && is_plain(word) {
            let Some(sub) = command.find_subcommand(word) else {
                return Err(format!("`{}` has no command `{word}`", spoken.join(" ")));
            };
            path.push(sub);
            spoken.push(word.clone());
        }
    }
    Ok(())
}

/// Whether the option takes a value; `None`: no command on the path has it.
fn find_option(path: &[&clap::Command], name: &str) -> Option<bool> {
    if ["help", "version"].contains(&name) {
        return Some(false);
    }
    let arguments = path.iter().flat_map(|command| command.get_arguments());
    let mut named = arguments.filter(|argument| argument.get_long() == Some(name));
    named.next().map(|argument| argument.get_action().takes_values())
}

/// A word that is meant literally, unlike `<command>`, `$command`, `{a,b}` or `...`.
fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}
