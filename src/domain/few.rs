//! Whether the outbox holds so little that it can be taken as it is: then there is nothing to share out.

use uuid::Uuid;

/// Rows.
pub const MOST: usize = 8;
/// Rows to look at: one more shows that these are not all.
pub const LOOK: usize = MOST + 1;
/// Bytes of payload of all rows.
const BYTES: i64 = 1024 * 1024;
/// Endpoints that all rows are compared with.
pub const ENDPOINTS: i64 = 200;

/// A row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub id: Uuid,
    pub tenant: String,
    pub bytes: i64,
    /// Endpoints of its tenant, counted up to some bound above what is allowed here.
    pub endpoints: i64,
}

/// The ids of all rows, if these are all and within the limits.
pub fn all(seen: &[Seen]) -> Option<Vec<Uuid>> {
    let within = seen.len() <= MOST
        && seen.iter().map(|row| row.bytes).sum::<i64>() <= BYTES
        && seen.iter().map(|row| row.endpoints).sum::<i64>() <= ENDPOINTS;
    within.then(|| seen.iter().map(|row| row.id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize, bytes: i64, endpoints: i64) -> Vec<Seen> {
        let row = |n| Seen { id: Uuid::from_u128(n as u128), tenant: format!("t{n}"), bytes, endpoints };
        (0..count).map(row).collect()
    }

    #[test]
    fn a_few_small_rows_with_few_endpoints_are_taken_as_they_are() {
        assert_eq!(all(&[]), Some(Vec::new()));
        assert_eq!(all(&rows(MOST, 1000, 3)).map(|ids| ids.len()), Some(MOST));
    }

    #[test]
    fn what_is_more_is_shared_out() {
        assert_eq!(all(&rows(LOOK, 1, 1)), None);
        assert_eq!(all(&rows(2, BYTES / 2 + 1, 1)), None);
        assert_eq!(all(&rows(2, 1, ENDPOINTS / 2 + 1)), None);
    }
}
