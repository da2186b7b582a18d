//! The outbox, and what the claim's statement takes from it.

use std::collections::{BTreeMap, VecDeque};

use posthaste::domain::ids;
use posthaste::domain::turns::{Ask, Found, From, TURN, Taken};
use uuid::Uuid;

use super::clock::{MS, Time};

/// Deliveries that one claim makes at most; one row is always taken.
const DELIVERIES: u32 = 2_000;

/// An event and the endpoints that it is owed to.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub emitted: Time,
    pub first: u32,
    pub endpoints: u32,
}

#[derive(Default)]
pub struct Outbox {
    tenants: BTreeMap<u32, VecDeque<Row>>,
}

/// In the order of their numbers, as text.
pub fn name(tenant: u32) -> String {
    format!("{tenant:06}")
}

fn number(tenant: &str) -> Option<u32> {
    tenant.parse().ok()
}

fn id(row: &Row) -> Uuid {
    ids::new_v7(row.emitted / MS, [0; 10])
}

impl Outbox {
    pub fn add(&mut self, tenant: u32, row: Row) {
        self.tenants.entry(tenant).or_default().push_back(row);
    }

    /// What `ask` says, and nothing of the tenants in `without`.
    pub fn claim(&mut self, ask: &Ask, without: &[String], now: Time) -> (Vec<Row>, Found) {
        let visited = self.visited(ask, without);
        let (each, most) = if visited.len() == 1 { (ask.alone, ask.alone) } else { (ask.each, ask.together) };
        let mut taken: Vec<u32> = vec![0; visited.len()];
        let (mut rows, mut deliveries) = (Vec::new(), 0);
        for (n, place) in turns(&self.tenants, &visited, each) {
            let row = self.tenants[&visited[place]][n as usize];
            deliveries += row.endpoints;
            if !rows.is_empty() && (rows.len() as u32 >= most || deliveries > DELIVERIES) {
                break;
            }
            rows.push(row);
            taken[place] += 1;
        }
        let mut found = Found { last: visited.last().map(|tenant| name(*tenant)), ..Found::default() };
        (found.deliveries, found.clock_ms) = (deliveries as usize, (now / MS) as i64);
        for (tenant, rows) in visited.iter().zip(taken).filter(|(_, rows)| *rows > 0) {
            found.taken.push(self.take(*tenant, rows));
        }
        (rows, found)
    }

    fn visited(&self, ask: &Ask, without: &[String]) -> Vec<u32> {
        let From::Everyone { after } = &ask.from else { return Vec::new() };
        let begin = number(after).map_or(0, |last| last + 1);
        let round = self.tenants.range(begin..).chain(self.tenants.range(..begin));
        let wanted = round.map(|(tenant, _)| *tenant).filter(|tenant| !without.contains(&name(*tenant)));
        wanted.take(ask.tenants as usize).collect()
    }

    fn take(&mut self, tenant: u32, rows: u32) -> Taken {
        let waiting = self.tenants.entry(tenant).or_default();
        let highest = waiting.drain(..rows as usize).map(|row| id(&row)).max().unwrap_or_default();
        if waiting.is_empty() {
            self.tenants.remove(&tenant);
        }
        Taken { tenant: name(tenant), rows, highest }
    }

    /// The oldest rows of all, whosever they are: not the rule, but what it is compared with.
    pub fn claim_oldest(&mut self, most: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        while rows.len() < most {
            let oldest = self.tenants.iter().min_by_key(|(_, waiting)| waiting.front().map(|row| row.emitted));
            let Some((&tenant, _)) = oldest else { break };
            let waiting = self.tenants.entry(tenant).or_default();
            let same = waiting.front().map(|row| row.emitted);
            while rows.len() < most && waiting.front().map(|row| row.emitted) == same && !waiting.is_empty() {
                rows.extend(waiting.pop_front());
            }
            if waiting.is_empty() {
                self.tenants.remove(&tenant);
            }
        }
        rows
    }
}

/// Numbers of rows with the places of their tenants, in the order of turns.
fn turns(tenants: &BTreeMap<u32, VecDeque<Row>>, visited: &[u32], each: u32) -> Vec<(u32, usize)> {
    let mut all = Vec::new();
    for (place, tenant) in visited.iter().enumerate() {
        let rows = each.min(tenants[tenant].len() as u32);
        all.extend((0..rows).map(|n| (n, place)));
    }
    all.sort_unstable_by_key(|(n, place)| (n / TURN, *place, *n));
    all
}
