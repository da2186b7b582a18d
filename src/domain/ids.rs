//! Identifiers: an event's id is a UUIDv7, so it carries its time of creation and names its partitions.

use std::ops::RangeInclusive;

use uuid::Uuid;

/// One event owed to one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct DeliveryKey {
    pub event_id: Uuid,
    pub endpoint_id: Uuid,
}

/// A new version 7 id for a row that is not an event (an endpoint), from the given clock and random bytes.
pub fn new_v7(unix_ms: u64, random: [u8; 10]) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid()
}

/// The millisecond in which a version 7 id was made. Meaningless for other versions.
pub fn unix_ms(id: Uuid) -> i64 {
    let b = id.as_bytes();
    i64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]])
}

/// The smallest id of the given millisecond.
pub fn floor(unix_ms: i64) -> Uuid {
    let ms = unix_ms.clamp(0, (1 << 48) - 1).to_be_bytes();
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&ms[2..]);
    Uuid::from_bytes(bytes)
}

/// The bounds of a batch of ids: statements carry them so that the planner needs one or two partitions, not all.
pub fn bounds(ids: impl IntoIterator<Item = Uuid>) -> Option<RangeInclusive<Uuid>> {
    let mut ids = ids.into_iter();
    let first = ids.next()?;
    let (low, high) = ids.fold((first, first), |(low, high), id| (low.min(id), high.max(id)));
    Some(low..=high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_at_or_below_every_id_of_its_millisecond_and_above_the_one_before() {
        let id = new_v7(1_700_000_000_123, [0; 10]);
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(unix_ms(id), 1_700_000_000_123);
        assert!(floor(unix_ms(id)) <= id);
        assert!(floor(unix_ms(id)) > new_v7(1_700_000_000_122, [0xff; 10]));
    }

    #[test]
    fn bounds_hold_every_id_and_are_absent_for_an_empty_batch() {
        let ids = [floor(7), floor(3), floor(9)];
        assert_eq!(bounds(ids), Some(floor(3)..=floor(9)));
        assert_eq!(bounds([]), None);
    }
}
