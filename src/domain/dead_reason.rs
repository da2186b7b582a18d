//! Why a delivery is dead.

/// Why a delivery will not be tried again unless somebody requeues it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeadReason {
    Exhausted,
    Gone,
    PermanentStatus,
    Poison,
    Undecodable,
    Unpublishable,
    EndpointRemoved,
    /// Held for longer than the configured time, or unfinished when its day of history ended.
    Expired,
    /// Its payload was erased. It can never be sent again.
    Erased,
}

impl DeadReason {
    pub const ALL: [DeadReason; 9] = [
        DeadReason::Exhausted,
        DeadReason::Gone,
        DeadReason::PermanentStatus,
        DeadReason::Poison,
        DeadReason::Undecodable,
        DeadReason::Unpublishable,
        DeadReason::EndpointRemoved,
        DeadReason::Expired,
        DeadReason::Erased,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            DeadReason::Exhausted => "exhausted",
            DeadReason::Gone => "gone",
            DeadReason::PermanentStatus => "permanent_status",
            DeadReason::Poison => "poison",
            DeadReason::Undecodable => "undecodable",
            DeadReason::Unpublishable => "unpublishable",
            DeadReason::EndpointRemoved => "endpoint_removed",
            DeadReason::Expired => "expired",
            DeadReason::Erased => "erased",
        }
    }

    pub fn parse(text: &str) -> Option<DeadReason> {
        DeadReason::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}
