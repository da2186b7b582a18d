//! Roles that may do no more than they need, as SQL for whoever administers the server.
//!
//! What each may do is one list; the statements are derived from it, and a test runs the service under exactly these.

mod list;
mod role;

pub use role::Role;

use list::{FUNCTIONS, SEQUENCES, TABLES};

const TEMPLATE: &str = include_str!("roles/template.sql");

/// What a role may do with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    pub role: Role,
    /// As SQL has it: `select`, or with columns, `update (status, updated_at)`; several separated by commas.
    pub privileges: &'static str,
    /// `table outbox`, `function uuid_v7()` or `sequence wake`, in the schema `posthaste`.
    pub kind: &'static str,
    pub name: &'static str,
}

/// All grants. `by_reference`: messages carry no payload, so workers read it here.
pub fn grants(by_reference: bool) -> Vec<Grant> {
    let lists = [("table", TABLES), ("sequence", SEQUENCES), ("function", FUNCTIONS)];
    let of_list = lists.iter().flat_map(|(kind, list)| {
        list.iter().flat_map(move |(name, grants)| {
            grants.iter().map(move |(role, privileges)| Grant { role: *role, privileges, kind, name })
        })
    });
    let payloads =
        Grant { role: Role::Worker, privileges: "select (id, payload, erased_at)", kind: "table", name: "events" };
    of_list.chain(by_reference.then_some(payloads)).collect()
}

/// The tables and views that the list names: every one of the schema.
pub fn tables() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|(name, _)| *name)
}

/// The statements. `prefix`: letters, digits and `_` only, so that nothing needs quoting.
pub fn sql(prefix: &str, by_reference: bool) -> String {
    let name = |role: Role| format!("{prefix}_{}", role.as_str());
    let others: Vec<String> = Role::ALL.into_iter().filter(|role| *role != Role::Migrator).map(name).collect();
    let grants: Vec<String> = grants(by_reference)
        .iter()
        .map(|grant| {
            let Grant { privileges, kind, name: object, .. } = grant;
            format!("  grant {privileges} on {kind} posthaste.{object} to {};", name(grant.role))
        })
        .collect();
    let quoted: Vec<String> = Role::ALL.into_iter().map(|role| format!("'{}'", name(role))).collect();
    TEMPLATE
        .replace("{migrator}", &name(Role::Migrator))
        .replace("{all}", &quoted.join(", "))
        .replace("{others}", &others.join(", "))
        .replace("{grants}", &grants.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statements_name_every_role_by_its_prefix_and_leave_no_placeholder() {
        let text = sql("shop", false);
        assert!(!text.contains(['{', '}']), "{text}");
        assert!(Role::ALL.iter().all(|role| text.contains(&format!("'shop_{}'", role.as_str()))), "{text}");
        assert!(text.contains("  grant execute on function posthaste.create_partitions(date, date) to shop_relay;\n"));
        assert!(!text.contains("posthaste_relay") && !text.contains("password"), "{text}");
    }

    #[test]
    fn workers_read_payloads_only_where_messages_do_not_carry_them() {
        let reads = |by_reference| {
            grants(by_reference).iter().any(|grant| grant.role == Role::Worker && grant.name == "events")
        };
        assert!(reads(true) && !reads(false));
    }
}
