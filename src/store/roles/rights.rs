//! What is granted, taken apart: one privilege on one thing, or on one column of it.

use std::fmt;

use super::grant::Grant;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// `table`, `sequence` or `function`.
    pub kind: &'static str,
    pub name: &'static str,
    pub privilege: String,
    /// Empty: all of it.
    pub column: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column.as_str() {
            "" => write!(f, "{} on {}", self.privilege, self.name),
            column => write!(f, "{} ({column}) on {}", self.privilege, self.name),
        }
    }
}

/// `select, update (a, b)` is three rights.
pub fn of(grant: &Grant) -> Vec<Right> {
    let right = |privilege: &str, column: &str| Right {
        kind: grant.kind,
        name: grant.name,
        privilege: privilege.trim().to_owned(),
        column: column.trim().to_owned(),
    };
    let mut rights = Vec::new();
    let mut rest = grant.privileges.trim();
    while !rest.is_empty() {
        let end = rest.find([',', '(']).unwrap_or(rest.len());
        let (privilege, after) = rest.split_at(end);
        match after.strip_prefix('(').and_then(|columns| columns.split_once(')')) {
            Some((columns, after)) => {
                rights.extend(columns.split(',').map(|column| right(privilege, column)));
                rest = after;
            }
            None => {
                rights.push(right(privilege, ""));
                rest = after;
            }
        }
        rest = rest.trim_start().trim_start_matches(',').trim_start();
    }
    rights
}

#[cfg(test)]
mod tests {
    use super::super::role::Role;
    use super::*;

    #[test]
    fn privileges_and_columns_are_taken_apart() {
        let shown = |privileges| {
            let grant = Grant { role: Role::Worker, privileges, kind: "table", name: "t" };
            of(&grant).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shown("select"), ["select on t"]);
        assert_eq!(
            shown("select, insert (a,\n   b), delete, update (c)"),
            ["select on t", "insert (a) on t", "insert (b) on t", "delete on t", "update (c) on t"]
        );
    }
}
