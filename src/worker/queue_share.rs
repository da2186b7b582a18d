//! This worker's share of one of the two work queues: its places for messages, and its rooms for requests.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use tokio::sync::Notify;

use super::bytes::UnackedBytes;
use super::rooms::SharedRooms;
use crate::domain::gate::Arrival;
use crate::domain::places::{self, Capacity, Places, is_off};
use crate::domain::work_queue::WorkQueue;

pub struct QueueShare {
    pub queue: WorkQueue,
    /// As the broker knows it.
    pub name: String,
    pub rooms: SharedRooms,
    /// Of the unacknowledged messages of both queues.
    pub bytes: UnackedBytes,
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

impl QueueShare {
    pub fn new(queue: WorkQueue, name: String, capacity: Capacity, bytes: UnackedBytes) -> QueueShare {
        let Places { prefetch, rooms } = places::places(capacity, queue, 1);
        QueueShare {
            queue,
            name,
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
    pub fn is_first(&self) -> bool {
        self.queue == WorkQueue::Deliver
    }

    pub fn arrival(&self) -> Arrival {
        if self.is_first() { Arrival::New } else { Arrival::Due }
    }

    pub fn slow_room(&self) -> usize {
        self.rooms.sizes().slow
    }

    pub fn prefetch(&self) -> u16 {
        self.prefetch.load(Ordering::Relaxed)
    }

    /// The rooms follow the number of workers at once, the prefetch where it is off by much.
    pub fn divide_among(&self, workers: usize) {
        let Places { prefetch, rooms } = places::places(self.capacity, self.queue, workers);
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
        let Places { prefetch, rooms } = places::places(self.capacity, self.queue, workers);
        self.rooms.resize(rooms);
        self.places.store(prefetch, Ordering::Relaxed);
        self.looks.store(0, Ordering::Relaxed);
        let prefetch = self.bytes.places(prefetch);
        self.prefetch.store(prefetch, Ordering::Relaxed);
        prefetch
    }
}
