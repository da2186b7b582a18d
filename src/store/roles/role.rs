//! The roles.

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// An application that emits events.
    Producer,
    Relay,
    Worker,
    /// Endpoints, requeues, looking at what happened.
    Operator,
    /// Reads figures and states; no payload, no body of an answer, no secret.
    Observer,
    /// Owns the schema.
    Migrator,
}

impl Role {
    pub const ALL: [Role; 6] =
        [Role::Producer, Role::Relay, Role::Worker, Role::Operator, Role::Observer, Role::Migrator];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Producer => "producer",
            Role::Relay => "relay",
            Role::Worker => "worker",
            Role::Operator => "operator",
            Role::Observer => "observer",
            Role::Migrator => "migrator",
        }
    }
}
