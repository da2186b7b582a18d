//! Waiting for a seat in the rooms of a share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::rooms::{Entry, Room, Rooms, Seat, Sizes};

/// Shared by all tasks of a share.
#[derive(Clone)]
pub struct SharedRooms(Arc<Mutex<Inner>>);

struct Inner {
    rooms: Rooms<Arc<str>>,
    waiting: HashMap<Seat, oneshot::Sender<()>>,
}

/// A seat, or a place in the line for one. Dropping it gives it up.
pub struct Taken {
    rooms: SharedRooms,
    seat: Seat,
}

/// There is no seat for it now.
#[derive(Debug)]
pub struct Full;

impl SharedRooms {
    pub fn new(sizes: Sizes) -> SharedRooms {
        SharedRooms(Arc::new(Mutex::new(Inner { rooms: Rooms::new(sizes), waiting: HashMap::new() })))
    }

    /// Waits for a seat, at most `patience`. `may_wait`: also where the slow room is full.
    pub async fn enter(
        &self,
        tenant: &Arc<str>,
        room: Room,
        may_wait: bool,
        patience: Duration,
    ) -> Result<Taken, Full> {
        let (taken, wait) = self.ask(tenant, room, may_wait).ok_or(Full)?;
        let Some(wait) = wait else { return Ok(taken) };
        match tokio::time::timeout(patience, wait).await {
            Ok(_) => Ok(taken),
            Err(_) => Err(Full),
        }
    }

    fn ask(&self, tenant: &Arc<str>, room: Room, may_wait: bool) -> Option<(Taken, Option<oneshot::Receiver<()>>)> {
        let mut inner = self.lock();
        let taken = |seat| Taken { rooms: self.clone(), seat };
        match inner.rooms.enter(tenant.clone(), room, may_wait) {
            Entry::Begin(seat) => Some((taken(seat), None)),
            Entry::Wait(seat) => {
                let (sender, receiver) = oneshot::channel();
                inner.waiting.insert(seat, sender);
                Some((taken(seat), Some(receiver)))
            }
            Entry::Full => None,
        }
    }

    pub fn sizes(&self) -> Sizes {
        self.lock().rooms.sizes()
    }

    pub fn resize(&self, sizes: Sizes) {
        self.with(|rooms| rooms.resize(sizes));
    }

    /// Changes the rooms, and tells those who may begin now.
    fn with(&self, change: impl FnOnce(&mut Rooms<Arc<str>>) -> Vec<Seat>) {
        let mut inner = self.lock();
        for seat in change(&mut inner.rooms) {
            if let Some(waiting) = inner.waiting.remove(&seat) {
                // Whoever has given up just now drops its seat, and that lets the next one in.
                let _ = waiting.send(());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// The request has been open for longer than a prompt one.
    pub fn grew_old(&self) {
        self.rooms.with(|rooms| rooms.grew_old(self.seat));
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.rooms.with(|rooms| rooms.leave(self.seat));
        self.rooms.lock().waiting.remove(&self.seat);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_seat_that_is_given_up_goes_to_the_next_and_a_wait_ends() {
        let rooms = SharedRooms::new(Sizes { prompt: 1, slow: 1 });
        let tenant: Arc<str> = "acme".into();
        let first = rooms.enter(&tenant, Room::Prompt, false, PATIENCE).await.unwrap();
        let gave_up = rooms.enter(&tenant, Room::Prompt, false, Duration::from_millis(20)).await;
        assert!(gave_up.is_err());
        let next = tokio::spawn({
            let (rooms, tenant) = (rooms.clone(), tenant.clone());
            async move { rooms.enter(&tenant, Room::Prompt, false, PATIENCE).await.is_ok() }
        });
        tokio::task::yield_now().await;
        first.grew_old();
        assert!(next.await.unwrap(), "the slow room has space for the old one");
        assert!(rooms.enter(&tenant, Room::Slow, false, PATIENCE).await.is_err());
        drop(first);
        assert!(rooms.enter(&tenant, Room::Slow, false, PATIENCE).await.is_ok());
        assert!(rooms.lock().waiting.is_empty());
    }
}
