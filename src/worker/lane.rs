//! One of the two work queues with the places and rooms that this worker has for it.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use tokio::sync::Notify;

use super::bytes::BytesInHand;
use super::rooms::SharedRooms;
use crate::domain::gate::Arrival;
use crate::domain::places::{self, Capacity, Places, is_off};

pub struct Lane {
    pub queue: String,
    pub kind: places::Lane,
    pub rooms: SharedRooms,
    /// Of the messages in hand, both lanes together.
    pub bytes: BytesInHand,
    capacity: Capacity,
    /// This worker's places when it last subscribed.
    places: AtomicU16,
    /// Messages that the broker hands out ahead: the places, or fewer while payloads are large.
    prefetch: AtomicU16,
    /// Looks, one after the other, at which the prefetch was off.
    looks: AtomicU32,
    off: Notify,
}

/// A worker that subscribes again is not counted for a moment; others must not take that for its end.
const LOOKS: u32 = 3;

impl Lane {
    pub fn new(queue: String, kind: places::Lane, capacity: Capacity, bytes: BytesInHand) -> Lane {
        let Places { prefetch, rooms } = places::places(capacity, kind, 1);
        Lane {
            queue,
            kind,
            rooms: SharedRooms::new(rooms),
            bytes,
            capacity,
            places: prefetch.into(),
            prefetch: prefetch.into(),
            looks: AtomicU32::new(0),
            off: Notify::new(),
        }
    }

    /// First attempts; otherwise retries, releases and requeues.
    pub fn first(&self) -> bool {
        self.kind == places::Lane::First
    }

    pub fn arrival(&self) -> Arrival {
        if self.first() { Arrival::New } else { Arrival::Due }
    }

    pub fn slow_room(&self) -> usize {
        self.rooms.sizes().slow
    }

    pub fn prefetch(&self) -> u16 {
        self.prefetch.load(Ordering::Relaxed)
    }

    /// The rooms follow the number of workers at once, the prefetch where it is off by much.
    pub fn share_among(&self, workers: usize) {
        let Places { prefetch, rooms } = places::places(self.capacity, self.kind, workers);
        self.rooms.resize(rooms);
        let off = is_off(self.places.load(Ordering::Relaxed), prefetch);
        if !off && self.bytes.change(self.prefetch(), prefetch).is_none() {
            self.looks.store(0, Ordering::Relaxed);
        } else if self.looks.fetch_add(1, Ordering::Relaxed) + 1 >= LOOKS {
            self.off.notify_one();
        }
    }

    /// Ends when the subscription should take new places.
    pub async fn off(&self) {
        self.off.notified().await;
    }

    /// Takes new places, for a subscription that begins now.
    pub fn take_places(&self, workers: usize) -> u16 {
        let Places { prefetch, rooms } = places::places(self.capacity, self.kind, workers);
        self.rooms.resize(rooms);
        self.places.store(prefetch, Ordering::Relaxed);
        self.looks.store(0, Ordering::Relaxed);
        let prefetch = self.bytes.places(prefetch);
        self.prefetch.store(prefetch, Ordering::Relaxed);
        prefetch
    }
}
