//! Checks one layer against the reference file: unknown keys, and values of another type than the default.

use figment::value::{Dict, Value};

use super::error::ConfigError;

const POLICIES: [&str; 2] = ["retry", "policies"];

/// The default whose type a key's value must have; `None` for a key that does not exist.
///
/// A named policy takes the keys of `[retry]`.
pub fn expected<'a>(path: &[&str], reference: &'a Dict) -> Option<&'a Value> {
    match path {
        ["retry", "policies", _, key] => retry(reference)?.get(*key),
        [section, key] => reference.get(*section)?.as_dict()?.get(*key),
        _ => None,
    }
}

fn retry(reference: &Dict) -> Option<&Dict> {
    reference.get("retry")?.as_dict()
}

pub fn check(layer: &Dict, reference: &Dict, origin: &str) -> Result<(), ConfigError> {
    layer.iter().try_for_each(|(name, value)| check_value(&[name.as_str()], value, reference, origin))
}

fn check_value(path: &[&str], value: &Value, reference: &Dict, origin: &str) -> Result<(), ConfigError> {
    let key = path.join(".");
    let invalid = |problem: String| ConfigError::Invalid { key: key.clone(), problem, origin: Some(origin.to_owned()) };
    if let Some(default) = expected(path, reference) {
        return check_type(&key, default, value).map_err(invalid);
    }
    if let [.., "policies", name] = path
        && path.starts_with(&POLICIES)
    {
        check_policy_name(name).map_err(invalid)?;
    }
    match value {
        Value::Dict(_, inner) if !inner.is_empty() || is_section(path, reference) => inner
            .iter()
            .try_for_each(|(name, value)| check_value(&[path, &[name.as_str()]].concat(), value, reference, origin)),
        _ if is_section(path, reference) => Err(invalid(format!("is a section; write its keys below [{key}]"))),
        _ => Err(ConfigError::UnknownKey { nearest: nearest(path, reference), key, origin: origin.to_owned() }),
    }
}

fn is_section(path: &[&str], reference: &Dict) -> bool {
    match path {
        [section] => reference.contains_key(*section),
        ["retry", "policies"] | ["retry", "policies", _] => true,
        _ => false,
    }
}

fn check_policy_name(name: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if name == "default" {
        return Err("is the name of [retry] itself; write the keys there, or choose another name".into());
    }
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err("is not a name for a policy; use 1 to 64 letters, digits, '_' and '-'".into())
}

/// No message repeats a value: it may be a secret.
fn check_type(key: &str, default: &Value, value: &Value) -> Result<(), String> {
    let (expected, example) = match default {
        Value::String(..) if value.as_str().is_some() => return Ok(()),
        Value::Bool(..) if value.to_bool().is_some() => return Ok(()),
        Value::Array(..) if value.as_array().is_some() => return Ok(()),
        Value::Num(_, num) if num.to_f64().is_some() && value.to_num().is_some() => return Ok(()),
        Value::Num(..) if value.to_i128().is_some() => return Ok(()),
        Value::Num(_, num) if num.to_f64().is_some() => ("a number", example(default)),
        Value::Num(..) => ("a whole number", example(default)),
        Value::Bool(..) => ("true or false", example(default)),
        Value::Array(..) => ("a list", list_example(key)),
        _ => ("a text in quotes", example(default)),
    };
    Err(format!("is {}, not {expected}; write it like {example}", found(value)))
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "a text",
        Value::Bool(..) => "true or false",
        Value::Num(..) => "a number",
        Value::Dict(..) => "a section",
        Value::Array(..) => "a list",
        Value::Empty(..) => "empty",
    }
}

fn example(default: &Value) -> String {
    match default {
        Value::String(_, text) => format!("{text:?}"),
        Value::Num(_, num) => match (num.to_f64(), num.to_i128()) {
            (Some(float), _) => float.to_string(),
            (_, integer) => integer.unwrap_or_default().to_string(),
        },
        other => other.to_bool().unwrap_or_default().to_string(),
    }
}

/// The defaults of most lists are empty and show nothing.
fn list_example(key: &str) -> String {
    let examples = [
        ("allow_cidrs", r#"["10.0.0.0/8"]"#),
        ("allow_ports", r#"[443, "8000-8999"]"#),
        ("permanent_status_codes", "[400, 422]"),
    ];
    let known = examples.iter().find(|(name, _)| key.ends_with(name));
    known.map_or(r#"["30s", "2m"]"#, |(_, example)| example).to_owned()
}

/// Every key of the reference, as `section.key`.
pub fn keys(reference: &Dict) -> Vec<String> {
    let of_section = |(section, keys): (&String, &Value)| {
        let keys: Vec<String> = keys.as_dict().into_iter().flat_map(Dict::keys).cloned().collect();
        keys.into_iter().map(|key| format!("{section}.{key}")).collect::<Vec<_>>()
    };
    reference.iter().flat_map(of_section).collect()
}

fn nearest(path: &[&str], reference: &Dict) -> String {
    let wanted = path.join(".");
    let mut known = keys(reference);
    if let ["retry", "policies", name, ..] = path {
        let policy = |key: &String| format!("retry.policies.{name}.{key}");
        known.extend(retry(reference).into_iter().flat_map(Dict::keys).map(policy));
    }
    known.into_iter().min_by_key(|key| strsim::levenshtein(key, &wanted)).unwrap_or_default()
}
