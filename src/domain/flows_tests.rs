use proptest::prelude::*;

use super::*;
use crate::domain::window;

const MOST: u32 = 1_000;
const PLACES: u32 = 512;

fn endpoint(n: u32) -> Uuid {
    Uuid::from_u128(n.into())
}

fn due(n: u32) -> Due {
    Due { endpoint_id: endpoint(n), mode: Mode::Full, max_in_flight: 32, rate_limit: None }
}

/// A simulated endpoint takes what it gets, and has so many held deliveries.
#[derive(Default)]
struct Backlog {
    flows: Flows,
    next: u128,
}

impl Backlog {
    fn tick(&mut self, due: &[Due], now_ms: u64) -> Vec<(Uuid, u32)> {
        let allotted = self.flows.allot(due, PLACES, MOST, now_ms);
        for (endpoint_id, count) in &allotted {
            for _ in 0..*count {
                self.next += 1;
                let key = DeliveryKey { event_id: Uuid::from_u128(self.next), endpoint_id: *endpoint_id };
                self.flows.let_go(Let { key, attempts: 0 }, now_ms);
            }
        }
        allotted
    }

    fn all_become(&mut self, became: Became) {
        let all = self.flows.on_the_way().map(|delivery| (delivery.key, became)).collect();
        self.flows.learn(&all);
    }
}

#[test]
fn a_lone_endpoint_that_takes_everything_soon_gets_more_than_the_places_in_each_tick() {
    let mut backlog = Backlog::default();
    let mut taken = Vec::new();
    for tick in 0..10 {
        taken.push(backlog.tick(&[due(1)], tick * 100)[0].1);
        backlog.all_become(Became::Taken);
    }
    assert_eq!(taken, [8, 16, 32, 64, 128, 256, 512, 896, 896, 896]);
}

#[test]
fn endpoints_that_do_not_take_all_within_a_tick_have_the_places_and_no_more() {
    let mut backlog = Backlog::default();
    let all: Vec<Due> = (0..40).map(due).collect();
    for tick in 0..50 {
        backlog.tick(&all, tick * 100);
        // As those that answer in 400 ms with 32 requests in flight.
        let mut counts: HashMap<Uuid, u32> = HashMap::new();
        let mut first = |delivery: &&Let| {
            let count = counts.entry(delivery.key.endpoint_id).or_default();
            *count += 1;
            *count <= 8
        };
        let taken = backlog.flows.on_the_way().filter(|delivery| first(delivery));
        let taken = taken.map(|delivery| (delivery.key, Became::Taken)).collect();
        backlog.flows.learn(&taken);
        let on_the_way = backlog.flows.count_on_the_way();
        assert!(on_the_way <= PLACES + 40, "{on_the_way}");
    }
}

#[test]
fn whoever_keeps_up_leaves_half_of_the_places_to_the_others() {
    let mut backlog = Backlog::default();
    for tick in 0..20 {
        backlog.tick(&[due(1)], tick * 100);
        backlog.all_become(Became::Taken);
    }
    // All that it has just got is on its way.
    backlog.tick(&[due(1)], 2_000);
    let others: Vec<Due> = (2..12).map(due).collect();
    let gone = backlog.tick(&others, 2_100);
    assert_eq!(gone.iter().filter(|(_, count)| *count == 8).count(), 10, "{gone:?}");
}

#[test]
fn an_endpoint_that_takes_nothing_gets_no_more_than_its_window() {
    let mut backlog = Backlog::default();
    (0..100).for_each(|tick| drop(backlog.tick(&[due(1)], tick * 100)));
    assert_eq!(backlog.flows.count_on_the_way(), 8);
}

#[test]
fn what_comes_back_shrinks_the_window_to_one_and_it_is_let_go_again_and_again() {
    let mut backlog = Backlog::default();
    let mut gone = Vec::new();
    for tick in 0..6 {
        gone.push(backlog.tick(&[due(1)], tick * 100)[0].1);
        backlog.all_become(Became::Back);
    }
    assert_eq!(gone, [8, 4, 2, 1, 1, 1]);
}

#[test]
fn an_endpoint_that_has_failed_begins_small_again() {
    let mut backlog = Backlog::default();
    for tick in 0..6 {
        backlog.tick(&[due(1)], tick * 100);
        backlog.all_become(Became::Taken);
    }
    let ramp = Due { mode: Mode::Ramp, ..due(1) };
    assert_eq!(backlog.tick(&[ramp], 700), [(endpoint(1), 8)]);
}

#[test]
fn a_rate_limit_also_holds_in_time() {
    let mut backlog = Backlog::default();
    let limited = Due { rate_limit: Some(10.0), ..due(1) };
    let mut gone = 0;
    for tick in 0..100 {
        gone += backlog.tick(&[limited], tick * 100).iter().map(|(_, count)| count).sum::<u32>();
        backlog.all_become(Became::Taken);
    }
    assert!((110..=130).contains(&gone), "12 a second for ten seconds: {gone}");
}

#[test]
fn those_who_come_first_leave_something_to_the_others() {
    let mut backlog = Backlog::default();
    let all: Vec<Due> = (0..20).map(due).collect();
    for tick in 0..10 {
        backlog.tick(&all, tick * 100);
        backlog.all_become(Became::Taken);
    }
    let last = backlog.tick(&all, 1_000);
    assert_eq!(last.len(), 20, "everybody gets at least one");
    let (first, all) = (last[0].1, last.iter().map(|(_, count)| count).sum::<u32>());
    assert!(first > PLACES / 2, "{first}");
    assert!(all <= PLACES + BESIDE_PLACES * PLACES + 20, "{all}");
}

#[test]
fn an_idle_endpoint_is_forgotten_and_one_with_deliveries_on_their_way_is_not() {
    let mut backlog = Backlog::default();
    backlog.tick(&[due(1)], 0);
    backlog.flows.forget_idle(FORGET_MS * 2);
    assert_eq!(backlog.flows.count_on_the_way(), 8);
    backlog.all_become(Became::Taken);
    backlog.flows.forget_idle(FORGET_MS * 2);
    assert!(backlog.flows.endpoints.is_empty());
}

proptest! {
    /// Whatever becomes of them: with nothing on its way an endpoint is let go one, and all that is on the way is at most
    /// what the lane and the broker may have, and one more for each endpoint.
    #[test]
    fn nobody_is_forgotten_and_the_lane_is_never_overfull(
        endpoints in 1u32..120,
        ticks in prop::collection::vec((0u8..4, 0u8..4), 1..40),
    ) {
        let mut backlog = Backlog::default();
        let all: Vec<Due> = (0..endpoints).map(due).collect();
        for (tick, (share, kind)) in ticks.into_iter().enumerate() {
            let idle: Vec<Uuid> = all.iter().map(|due| due.endpoint_id)
                .filter(|id| backlog.flows.on_the_way().all(|delivery| delivery.key.endpoint_id != *id)).collect();
            let gone = backlog.tick(&all, tick as u64 * 100);
            prop_assert!(gone.iter().map(|(_, count)| count).sum::<u32>() <= MOST + BESIDE_PLACES * PLACES);
            let gone: HashMap<Uuid, u32> = gone.into_iter().collect();
            prop_assert!(idle.iter().all(|id| gone.contains_key(id)));
            prop_assert!(backlog.flows.count_on_the_way() <= PLACES + BESIDE_PLACES * PLACES + endpoints);
            prop_assert!(backlog.flows.endpoints.values().all(|flow| flow.on_the_way.len() as u32 <= window::MOST));
            let became = [Became::Taken, Became::Failed, Became::Back][usize::from(kind).min(2)];
            let some = backlog.flows.on_the_way().enumerate()
                .filter(|(n, _)| n % 4 < usize::from(share)).map(|(_, delivery)| (delivery.key, became)).collect();
            backlog.flows.learn(&some);
            let counted = backlog.flows.on_the_way().count() as u32;
            prop_assert_eq!(counted, backlog.flows.count_on_the_way());
        }
    }
}
