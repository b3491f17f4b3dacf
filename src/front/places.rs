//! Bounded counts: connections, handshakes under way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A bounded count that a connection is in for as long as it holds its place.
#[derive(Debug)]
pub(super) struct Places {
    used: AtomicUsize,
    places_max: usize,
}

/// A place in a bounded count.
#[derive(Debug)]
pub(super) struct Place(Arc<Places>);

impl Places {
    pub fn new(places_max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), places_max })
    }

    /// Takes a place; `None` where all are taken.
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        // Relaxed: the counter publishes nothing but itself.
        let free = |used: usize| (used < self.places_max).then(|| used + 1);
        let taken = self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, free);
        taken.is_ok().then(|| Place(Arc::clone(self)))
    }

    /// Waits for a place. The caller bounds the wait.
    pub async fn wait(self: &Arc<Self>) -> Place {
        loop {
            match self.take() {
                Some(place) => return place,
                None => tokio::time::sleep(WAIT_POLL).await,
            }
        }
    }

    /// Returns how many places are taken.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bounded counts, one a peer address. Not on the way of a request: asked once a connection.
#[derive(Debug)]
pub(super) struct PeerPlaces {
    used: Mutex<HashMap<IpAddr, usize>>,
    places_per_peer_max: usize,
}

/// A place in the count of one peer.
#[derive(Debug)]
pub(super) struct PeerPlace {
    peers: Arc<PeerPlaces>,
    peer: IpAddr,
}

impl PeerPlaces {
    pub fn new(places_per_peer_max: usize) -> Arc<Self> {
        Arc::new(Self { used: Mutex::default(), places_per_peer_max })
    }

    /// Takes a place; `None` where the peer has all it may have.
    pub fn take(self: &Arc<Self>, peer: IpAddr) -> Option<PeerPlace> {
        let mut all = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let used = all.entry(peer).or_default();
        if *used >= self.places_per_peer_max {
            return None;
        }
        *used += 1;
        Some(PeerPlace { peers: Arc::clone(self), peer })
    }
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let mut all = self.peers.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = all.get_mut(&self.peer) {
            *used = used.saturating_sub(1);
            if *used == 0 {
                all.remove(&self.peer);
            }
        }
    }
}

/// How often a place that is waited for is looked for.
const WAIT_POLL: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_its_own_bound_and_leaves_nothing_behind() {
        let peers = PeerPlaces::new(2);
        let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|peer| peer.parse().expect("address"));
        let held = (peers.take(one).expect("first"), peers.take(one).expect("second"));
        assert!(peers.take(one).is_none() && peers.take(other).is_some());
        drop(held);
        assert!(peers.used.lock().expect("not poisoned").is_empty());
        assert!(peers.take(one).is_some());
    }

    #[test]
    fn a_bounded_count_is_never_passed() {
        let places = Places::new(1);
        let held = places.take().expect("first");
        assert!(places.take().is_none());
        drop(held);
        assert!(places.take().is_some() && places.used() == 0);
    }
}
