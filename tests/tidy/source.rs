//! The project's files as text. For Rust a second text of the same length has comments and literals blanked, so that a
//! rule sees code only, and a third has test code blanked too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use super::mask;

/// One broken rule at one place.
pub struct Violation {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

pub struct Source {
    /// Relative to the project, with slashes.
    pub path: String,
    pub raw: String,
    /// Comments and literals blanked.
    pub code: String,
    /// Items for tests only blanked too; empty for a file of tests.
    pub production: String,
    /// The module path; empty for a crate root.
    pub module: Vec<String>,
}

impl Source {
    pub fn violation(&self, offset: usize, rule: impl Into<String>) -> Violation {
        Violation { file: self.path.clone(), line: line_at(&self.raw, offset), rule: rule.into() }
    }

    pub fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    /// The line of the offset, as written.
    pub fn line(&self, offset: usize) -> &str {
        self.raw.lines().nth(line_at(&self.raw, offset) - 1).unwrap_or("")
    }

    /// A comment on the line of the offset, or on the one above it.
    pub fn has_comment(&self, offset: usize) -> bool {
        let above = line_at(&self.raw, offset).saturating_sub(2);
        self.raw.lines().skip(above).take(2).any(|line| line.contains("// "))
    }
}

/// A document or a script.
pub struct Text {
    pub path: String,
    pub text: String,
}

impl Text {
    pub fn violation(&self, line: usize, rule: impl Into<String>) -> Violation {
        Violation { file: self.path.clone(), line, rule: rule.into() }
    }

    pub fn is_markdown(&self) -> bool {
        self.path.ends_with(".md")
    }
}

/// Everything that the rules look at.
pub struct Tree {
    /// Below `src/` and `tests/`.
    pub rust: Vec<Source>,
    /// Markdown anywhere, and everything below `scripts/`.
    pub texts: Vec<Text>,
    /// Every file and folder.
    pub paths: BTreeSet<String>,
}

impl Tree {
    pub fn load() -> Tree {
        let mut files = BTreeMap::new();
        let mut paths = BTreeSet::new();
        walk(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut files, &mut paths);
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        Tree { paths, ..Tree::of(&files) }
    }

    /// A tree of made-up files, to show that a rule can fail.
    pub fn of(files: &[(&str, &str)]) -> Tree {
        let is_rust = |path: &str| path.ends_with(".rs") && (path.starts_with("src/") || path.starts_with("tests/"));
        let is_text = |path: &str| path.ends_with(".md") || path.starts_with("scripts/");
        let mut rust: Vec<Source> =
            files.iter().filter(|(path, _)| is_rust(path)).map(|(path, raw)| source(path, raw)).collect();
        mark_test_files(&mut rust);
        let texts = files.iter().filter(|(path, _)| is_text(path));
        let texts = texts.map(|(path, text)| Text { path: (*path).to_owned(), text: (*text).to_owned() }).collect();
        Tree { rust, texts, paths: files.iter().map(|(path, _)| (*path).to_owned()).collect() }
    }

    /// Files below `src/`, tests among them.
    pub fn src(&self) -> impl Iterator<Item = &Source> {
        self.rust.iter().filter(|source| source.is_in("src/"))
    }
}

fn walk(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>, paths: &mut BTreeSet<String>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if name == "target" || name == ".git" {
            continue;
        }
        paths.insert(path.clone());
        if entry.path().is_dir() {
            walk(&entry.path(), &format!("{path}/"), files, paths);
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            files.insert(path, text);
        }
    }
}

fn source(path: &str, raw: &str) -> Source {
    let code = mask::code(raw);
    let production = mask::without_tests(&code);
    Source { path: path.to_owned(), raw: raw.to_owned(), code, production, module: module_of(path) }
}

fn module_of(path: &str) -> Vec<String> {
    let path = path.split_once('/').map_or(path, |(_, rest)| rest);
    let parts = path.trim_end_matches(".rs").split('/');
    let mut parts: Vec<String> = parts.map(str::to_owned).collect();
    if parts.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        parts.pop();
    }
    parts
}

/// A file that is declared by `#[cfg(test)] mod name;`, and everything below it, is test code.
fn mark_test_files(files: &mut [Source]) {
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files.iter() {
        for module in mask::test_modules(&file.raw, &file.code) {
            let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let parent = if file.path.ends_with("/mod.rs") || file.module.is_empty() {
                folder.to_owned()
            } else {
                file.path.trim_end_matches(".rs").to_owned()
            };
            let path = match &module.path {
                Some(named) => format!("{folder}/{named}"),
                None => format!("{parent}/{}.rs", module.name),
            };
            let path_of_module = [file.module.as_slice(), &[module.name]].concat();
            tests.insert(path, path_of_module);
        }
    }
    for file in files.iter_mut().filter(|file| file.is_in("src/")) {
        if let Some(module) = tests.get(&file.path) {
            file.module = module.clone();
            file.production = String::new();
        }
        let below = |test: &String| file.path.starts_with(&format!("{}/", test.trim_end_matches(".rs")));
        if tests.keys().any(below) {
            file.production = String::new();
        }
    }
}

pub fn line_at(text: &str, offset: usize) -> usize {
    1 + text[..offset].matches('\n').count()
}

/// The offsets at which `word` stands on its own: no letter, digit or underscore next to its ends.
pub fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_name = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let (bytes, end) = (text.as_bytes(), at + word.len());
        let begins = !is_name(word.as_bytes().first()) || *at == 0 || !is_name(bytes.get(at - 1));
        let ends = !is_name(word.as_bytes().last()) || !is_name(bytes.get(end));
        begins && ends
    })
}

/// The name that the text begins with, or nothing.
pub fn name_at(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}
