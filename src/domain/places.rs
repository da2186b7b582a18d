//! How many places for messages and seats for requests each worker has: shares of what is configured for all workers together.
//!
//! What all workers together have at hand and in flight is what a healthy request competes with, so it must not grow with
//! the number of workers. It is divided among them, down to a least share with which one worker still does useful work.

use super::rooms::Sizes;
use super::work_queue::WorkQueue;

/// First attempts get two thirds of everything, and what is due again one third, so that neither can take from the other.
fn share(queue: WorkQueue, all: usize) -> usize {
    match queue {
        WorkQueue::Deliver => all * 2 / 3,
        WorkQueue::Retry => all / 3,
    }
}

/// The least number of places of one worker, unless fewer are configured.
fn least(queue: WorkQueue) -> usize {
    match queue {
        WorkQueue::Deliver => 128,
        WorkQueue::Retry => 64,
    }
}

/// For all workers together, both queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// HTTP requests in flight.
    pub requests: usize,
    /// Messages that the broker hands out ahead of their turn.
    pub messages: usize,
}

/// What one worker has of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    pub prefetch: u16,
    pub rooms: Sizes,
}

/// Released deliveries that may be on their way at least, however small the workers are. The release learns ten times a
/// second what became of them, so with a few places an endpoint that is behind would never catch up.
const LEAST_RELEASED: usize = 256;

/// Released deliveries that may be on their way to all workers together: as many as they have places for retries.
pub fn released(capacity: Capacity) -> u32 {
    share(WorkQueue::Retry, capacity.messages).clamp(LEAST_RELEASED, u32::MAX as usize) as u32
}

/// A fifth of the seats are for prompt requests, the rest for slow ones; and a quarter of the places for what waits.
const PROMPT_FIFTH: usize = 5;

pub fn places(capacity: Capacity, queue: WorkQueue, workers: usize) -> Places {
    let of_all = share(queue, capacity.messages).max(1);
    let messages = (of_all / workers.max(1)).max(least(queue).min(of_all));
    // The seats shrink with the places.
    let seats = share(queue, capacity.requests).max(1) * messages / of_all;
    let prompt = (seats / PROMPT_FIFTH).max(1);
    let slow = seats.saturating_sub(prompt).min(messages * 3 / 4).max(1);
    Places { prefetch: messages.min(usize::from(u16::MAX)) as u16, rooms: Sizes { prompt, slow } }
}

/// Whether a worker that took its places when there were other workers should take new ones.
pub fn is_off(prefetch: u16, should_be: u16) -> bool {
    let (now, should_be) = (usize::from(prefetch), usize::from(should_be));
    now >= should_be * 2 || should_be >= now * 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEFAULT: Capacity = Capacity { requests: 1440, messages: 1536 };

    #[test]
    fn the_default_and_its_shares() {
        let of = |queue, workers| {
            let Places { prefetch, rooms } = places(DEFAULT, queue, workers);
            (prefetch, rooms.prompt, rooms.slow)
        };
        assert_eq!((of(WorkQueue::Deliver, 1), of(WorkQueue::Retry, 1)), ((1024, 192, 768), (512, 96, 384)));
        assert_eq!((of(WorkQueue::Deliver, 4), of(WorkQueue::Retry, 4)), ((256, 48, 192), (128, 24, 96)));
        assert_eq!((of(WorkQueue::Deliver, 16), of(WorkQueue::Retry, 16)), ((128, 24, 96), (64, 12, 48)), "the least");
    }

    #[test]
    fn the_release_fills_the_places_for_retries_and_is_not_starved_by_small_workers() {
        assert_eq!(released(DEFAULT), 512);
        assert_eq!(released(Capacity { requests: 8, messages: 8 }), 256);
    }

    #[test]
    fn a_small_configuration_is_kept_to() {
        let small = Capacity { requests: 8, messages: 8 };
        assert_eq!(places(small, WorkQueue::Deliver, 3), Places { prefetch: 5, rooms: Sizes { prompt: 1, slow: 3 } });
        let least = places(Capacity { requests: 1, messages: 1 }, WorkQueue::Retry, 1);
        assert_eq!(least, Places { prefetch: 1, rooms: Sizes { prompt: 1, slow: 1 } });
    }

    #[test]
    fn places_are_taken_anew_when_they_are_off_by_a_factor_of_two() {
        assert!(!is_off(1024, 513) && is_off(1024, 512) && is_off(256, 512) && !is_off(256, 341));
    }

    proptest! {
        #[test]
        fn the_slow_room_never_takes_all_places(requests in 1usize..20_000, messages in 4usize..40_000, workers in 1usize..100) {
            for queue in [WorkQueue::Deliver, WorkQueue::Retry] {
                let Places { prefetch, rooms } = places(Capacity { requests, messages }, queue, workers);
                prop_assert!(prefetch >= 1 && rooms.prompt >= 1 && rooms.slow >= 1);
                prop_assert!(rooms.slow <= (usize::from(prefetch) * 3 / 4).max(1));
            }
        }

        /// Beyond the least share, all workers together have no more than one would have.
        #[test]
        fn workers_share(workers in 1usize..100) {
            for queue in [WorkQueue::Deliver, WorkQueue::Retry] {
                let one = places(DEFAULT, queue, workers);
                let least = places(DEFAULT, queue, 1_000_000);
                let all = places(DEFAULT, queue, 1);
                prop_assert!(one == least || usize::from(one.prefetch) * workers <= usize::from(all.prefetch));
                prop_assert!(one == least || one.rooms.slow * workers <= all.rooms.slow);
            }
        }
    }
}
