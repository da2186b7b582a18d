//! One line of the list.

use super::role::Role;

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
