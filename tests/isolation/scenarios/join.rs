//! One more worker joins while an endpoint is owed more than it can take: how many requests are open at once, as the receiver
//! counts them.

use std::path::Path;
use std::time::Duration;

use crate::isolation::load::stream;
use crate::isolation::options::Options;
use crate::isolation::receiver::Manner;
use crate::isolation::report::{Bound, Shown};
use crate::isolation::stack::{Customer, Stack};

const WORKERS: usize = 4;
const WORK_MS: u64 = 40;
/// Events in a second.
const RATE: f64 = 1_200.0;
const TIME: Duration = Duration::from_secs(30);
/// The other worker joins after this.
const ALONE: Duration = Duration::from_secs(10);
/// Until the workers that are there have counted each other.
const COUNTED: Duration = Duration::from_secs(5);
/// Since a worker counts the others with a delay.
const OVER: Duration = Duration::from_secs(1);
const MAX_IN_FLIGHT: usize = 32;
const SETTINGS: [(&str, &str); 1] = [("delivery.max_in_flight", "32")];
const PATIENCE: Duration = Duration::from_secs(120);

/// The most requests that were open, and how long there were more than allowed.
struct Open {
    most: usize,
    over: Duration,
}

pub async fn run(options: &Options, dir: &Path) -> Result<Shown, String> {
    let workers = options.workers(WORKERS);
    let mut stack = Stack::start(dir, "join", &SETTINGS, workers).await?;
    stack.listen()?;
    // Workers count each other with a delay, and nothing says when they have.
    tokio::time::sleep(COUNTED).await;
    let customer = stack.customers("joined", 1, Manner::Accept(WORK_MS)).await?.remove(0);
    customer.site.in_flight.watch(MAX_IN_FLIGHT);
    let (db, tenants) = (stack.db.clone(), vec![customer.tenant.clone()]);
    let joining = async {
        // Nothing is awaited: the load goes on meanwhile.
        tokio::time::sleep(ALONE).await;
        let before = open(&customer);
        stack.add_worker().await?;
        Ok(before)
    };
    let (before, committed) = tokio::try_join!(joining, stream(&db, &tenants, RATE, TIME))?;
    let after = open(&customer);
    let requests = customer.site.requests();
    stack.settled(PATIENCE).await?;
    let last = open(&customer);
    let mut shown = Shown::default();
    shown.figure("workers before", workers as f64, "");
    shown.figure("events", committed as f64, "");
    shown.figure("requests while they came", requests as f64 / TIME.as_secs_f64(), "a second");
    shown.figure("requests for an event that had been accepted before", again(&customer), "");
    shown.claim("open at once, before", before.most as f64, Bound::AtMost(MAX_IN_FLIGHT as f64));
    let share = MAX_IN_FLIGHT.div_ceil(workers + 1) + 1;
    shown.claim("open at once, when one more joins", after.most as f64, Bound::AtMost((MAX_IN_FLIGHT + share) as f64));
    shown.claim("more than allowed, for so long, s", after.over.as_secs_f64(), Bound::AtMost(OVER.as_secs_f64()));
    shown.claim("open at once, until the backlog is gone", last.most as f64, Bound::AtMost(MAX_IN_FLIGHT as f64));
    stack.stop().await?;
    Ok(shown)
}

/// Since this was asked last.
fn open(customer: &Customer) -> Open {
    let open = Open { most: customer.site.in_flight.take_most(), over: customer.site.in_flight.time_over() };
    customer.site.in_flight.watch(MAX_IN_FLIGHT);
    open
}

fn again(customer: &Customer) -> f64 {
    (customer.site.requests() - customer.site.accepted().len()) as f64
}
