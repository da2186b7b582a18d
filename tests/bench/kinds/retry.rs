//! Every delivery fails once and waits in a delay queue: what a retry costs, and how late it comes.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::bench::options::Options;
use crate::bench::row::{Latency, Parts, Row};
use crate::bench::work::{KIB, PATIENCE, Round, WARM_UP, Work, accepted, commit, drained, floor_id, subscribers};
use crate::isolation::cpu::Cpu;
use crate::isolation::peaks::watched;
use crate::isolation::receiver::Manner;
use crate::isolation::stack::Stack;
use crate::wait_for;

/// All of them wait in one queue for the same time, so it gives them back as fast as they came.
const SETTINGS: [(&str, &str); 4] =
    [("retry.schedule", r#"["8s"]"#), ("retry.jitter_bps", "0"), ("retry.slots", "1"), ("circuit.enabled", "false")];
const ENDPOINTS: usize = 50;
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub async fn run(options: &Options, dir: &Path) -> Result<Vec<Row>, String> {
    let stack = Stack::start(dir, "retry", &SETTINGS, 1).await?;
    stack.listen()?;
    let (mut rows, mut plain) = (Vec::new(), Parts::default());
    for (case, manner) in [("none fails", Manner::Accept(0)), ("each fails once", Manner::FailOnce)] {
        let tenant = case.replace(' ', "-");
        // Each event goes to one of them: those of one tenant would all get it.
        let mut sites = Vec::new();
        let tenants: Vec<String> = (0..ENDPOINTS).map(|number| format!("{tenant}-{number}")).collect();
        for tenant in &tenants {
            sites.extend(subscribers(&stack, tenant, 1, manner).await?);
        }
        let work = |events| Work { tenants: &tenants, sites: &sites, events, each: 1, bytes: KIB };
        drained(&stack, &work(WARM_UP)).await?;
        let (mut rounds, mut waited, mut late) = (Vec::new(), 0u64, Vec::new());
        for _ in 0..options.rounds() {
            let (round, most, lateness) = one(&stack, &work(options.deliveries())).await?;
            rounds.push(round);
            waited = waited.max(most);
            late.extend(lateness);
        }
        let mut row = Row::of("retry", case, &rounds);
        if manner == Manner::FailOnce {
            // Nothing is done while all wait, so it is no rate.
            row.per_second = None;
            row.latency_ms = Some(Latency::of(&late));
            row.figure("messages in the delay queue at most", waited as f64, "");
            costs_more(&mut row, plain);
        }
        plain = row.cpu_us;
        rows.push(row);
    }
    stack.stop().await?;
    Ok(rows)
}

fn costs_more(row: &mut Row, plain: Parts) {
    let more = [
        ("worker", row.cpu_us.worker - plain.worker),
        ("relay", row.cpu_us.relay - plain.relay),
        ("PostgreSQL", row.cpu_us.postgresql - plain.postgresql),
        ("RabbitMQ", row.cpu_us.rabbitmq - plain.rabbitmq),
    ];
    for (part, us) in more {
        row.figure(format!("a retry costs {part}"), us, "us");
    }
}

/// The most messages that waited, and how late each second attempt began, in milliseconds.
async fn one(stack: &Stack, work: &Work<'_>) -> Result<(Round, u64, Vec<f64>), String> {
    work.sites.iter().for_each(|site| site.arrivals().clear());
    let (first, before) = (floor_id(&stack.db).await?, accepted(work.sites));
    commit(&stack.db, work).await?;
    let (began, cpu) = (Instant::now(), stack.cpu());
    let settled = async {
        let come = async || (accepted(work.sites) - before >= work.events).then_some(());
        wait_for("all requests", PATIENCE, come).await?;
        stack.settled(PATIENCE).await
    };
    let mut most = 0;
    let both = async {
        tokio::select! {
            done = watched(stack, settled) => done,
            never = look(stack, &mut most) => match never {},
        }
    };
    let (done, peaks) = both.await;
    done?;
    let (elapsed, used): (f64, Cpu) = (began.elapsed().as_secs_f64(), stack.cpu() - cpu);
    let late = "select (extract(epoch from b.started_at - a.next_attempt_at) * 1000)::float8
                  from posthaste.attempts a
                  join posthaste.attempts b on b.event_id = a.event_id and b.endpoint_id = a.endpoint_id and b.attempt = 2
                 where a.event_id >= $1 and b.event_id >= $1 and a.attempt = 1";
    let late = sqlx::query_scalar(late).bind(first).fetch_all(&stack.db).await.map_err(|error| error.to_string())?;
    Ok((Round::new(work.events, elapsed, used, elapsed, peaks), most, late))
}

async fn look(stack: &Stack, most: &mut u64) -> std::convert::Infallible {
    let mut tick = tokio::time::interval(LOOK_AGAIN);
    loop {
        tick.tick().await;
        let depth = stack.broker.depth().await.unwrap_or_default();
        *most = depth.delay.max(*most);
    }
}
