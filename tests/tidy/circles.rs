//! No two files import each other, not even by way of others: a folder can be read from the bottom up.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, Tree, Violation, name_at, words};

/// A module path, from the crate's root.
type Module = Vec<String>;

pub fn import_circles(tree: &Tree) -> Vec<Violation> {
    let sources: BTreeMap<Module, &Source> = tree
        .src()
        .filter(|source| !source.module.is_empty() && !source.production.is_empty())
        .map(|source| (source.module.clone(), source))
        .collect();
    let known: BTreeSet<&Module> = sources.keys().collect();
    let imports: BTreeMap<&Module, BTreeSet<Module>> =
        sources.iter().map(|(module, source)| (module, imported(source, &known))).collect();
    let reach: BTreeMap<&Module, BTreeSet<&Module>> =
        imports.keys().map(|module| (*module, reachable(module, &imports))).collect();
    let mut violations = Vec::new();
    for (module, others) in &imports {
        let back = others.iter().filter(|other| reach[other].contains(module));
        let back: Vec<String> = back.map(|other| other.join("::")).collect();
        if !back.is_empty() {
            let rule = format!("a circle of imports goes through {}", back.join(", "));
            violations.push(sources[*module].violation(0, rule));
        }
    }
    violations
}

fn reachable<'a>(from: &Module, imports: &'a BTreeMap<&Module, BTreeSet<Module>>) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Module> = imports[from].iter().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(&imports[module]);
        }
    }
    reached
}

/// Other files that this one names, in its imports or on the way.
fn imported(source: &Source, known: &BTreeSet<&Module>) -> BTreeSet<Module> {
    let code = &source.production;
    let uses = words(code, "use").flat_map(|at| {
        let statement = code[at + 3..].split(';').next().unwrap_or_default();
        paths(statement.trim())
    });
    let on_the_way = ["crate::", "super::"].into_iter().flat_map(|start| {
        words(code, start).filter(|at| !code[..*at].ends_with("::")).filter_map(|at| path_at(&code[at..]))
    });
    let children =
        known.iter().filter(|module| module.len() == source.module.len() + 1 && module.starts_with(&source.module));
    let named_children = children.filter(|module| module.last().is_some_and(|name| enters(code, name)));
    uses.chain(on_the_way)
        .filter_map(|path| resolve(&source.module, &path, known))
        .chain(named_children.map(|module| (*module).clone()))
        .filter(|module| *module != source.module)
        .collect()
}

/// As in `child::function()`.
fn enters(code: &str, name: &str) -> bool {
    words(code, name).any(|at| code[at + name.len()..].starts_with("::"))
}

/// Every path of `a::{b, c::d}`.
fn paths(tree: &str) -> Vec<String> {
    let Some((prefix, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let (mut depth, mut parts, mut part) = (0, Vec::new(), String::new());
    for c in rest.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => parts.push(std::mem::take(&mut part)),
            c => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                part.push(c);
            }
        }
    }
    parts.push(part);
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(paths).map(|path| format!("{}{path}", prefix.trim())).collect()
}

/// The path that begins here, up to the first thing that is no part of one. Groups are looked at as imports.
fn path_at(code: &str) -> Option<String> {
    let mut names = Vec::new();
    let mut rest = code;
    loop {
        let name = name_at(rest);
        if rest.starts_with('{') {
            return None;
        }
        if name.is_empty() {
            break;
        }
        names.push(name);
        let Some(next) = rest[name.len()..].strip_prefix("::") else { break };
        rest = next;
    }
    Some(names.join("::"))
}

/// The file that a path leads into: the longest beginning of it that is one.
fn resolve(from: &Module, path: &str, known: &BTreeSet<&Module>) -> Option<Module> {
    let mut names = path.split("::").map(|name| name_at(name.trim()).to_owned()).peekable();
    let mut at: Module = match names.peek().map(String::as_str) {
        Some("crate") => Vec::new(),
        Some("super" | "self") => from.clone(),
        _ => return child(from, &names.next()?, known),
    };
    while let Some(name) = names.next_if(|name| ["crate", "super", "self"].contains(&name.as_str())) {
        if name == "super" {
            at.pop();
        }
    }
    for name in names {
        let Some(next) = child(&at, &name, known) else { break };
        at = next;
    }
    known.contains(&at).then_some(at)
}

fn child(of: &Module, name: &str, known: &BTreeSet<&Module>) -> Option<Module> {
    let child = [of.as_slice(), &[name.to_owned()]].concat();
    known.contains(&child).then_some(child)
}
