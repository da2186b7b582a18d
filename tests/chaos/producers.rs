//! Producers: they commit events at a steady rate and write down what they know to be committed. A commit whose answer was
//! lost is looked up by the id, so the ledger is never a guess.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::chaos::ledger::{Clock, Committed, FOR_TWO, Ledger, TENANT, TYPES, fingerprint};

const PRODUCERS: usize = 6;
/// Events in one transaction: 1 to this many.
const MOST: usize = 3;
const PAUSE: Duration = Duration::from_millis(200);

pub struct Load {
    pub rate: f64,
    pub events: u64,
    pub seed: u64,
    /// Where the database is, without any proxy.
    pub database_url: String,
}

/// Lets the producers wait between two transactions.
#[derive(Clone, Default)]
pub struct Pause(watch::Sender<bool>);

impl Pause {
    pub fn set(&self, paused: bool) {
        self.0.send_replace(paused);
    }

    async fn until(&self, paused: bool) {
        // The sender is ours, so it is there.
        let _ = self.0.subscribe().wait_for(|now| *now == paused).await;
    }
}

pub struct Draft {
    id: Uuid,
    event_type: usize,
    payload: String,
}

#[derive(Clone)]
pub struct Producer {
    db: PgPool,
    tenant: String,
    ledger: Arc<Ledger>,
    clock: Clock,
    pause: Pause,
}

/// What is known about a transaction that did not go through smoothly.
enum Failure {
    /// Its commit was never asked for.
    NotCommitted,
    /// Its commit was asked for, and the answer is unknown.
    Unknown,
}

/// Runs the producers until they have committed what they should and `enough` is said.
pub async fn produce(load: Load, ledger: Arc<Ledger>, clock: Clock, pause: Pause, enough: CancellationToken) {
    let tracker = TaskTracker::new();
    for number in 0..PRODUCERS {
        let producer = Producer::new(&load.database_url, TENANT, ledger.clone(), clock, pause.clone());
        let rng = StdRng::seed_from_u64(load.seed.wrapping_add(1 + number as u64));
        let mean = (1 + MOST) as f64 / 2.0;
        let every = Duration::from_secs_f64(PRODUCERS as f64 * mean / load.rate);
        let (events, enough, late) = (load.events, enough.clone(), tracker.clone());
        tracker.spawn(async move { producer.run(rng, every, events, enough, late).await });
    }
    tracker.close();
    tracker.wait().await;
}

impl Producer {
    pub fn new(database_url: &str, tenant: &str, ledger: Arc<Ledger>, clock: Clock, pause: Pause) -> Producer {
        let db = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(5))
            .test_before_acquire(false)
            .connect_lazy(database_url)
            .expect("the URL of the database");
        Producer { db, tenant: tenant.to_owned(), ledger, clock, pause }
    }

    async fn run(self, mut rng: StdRng, every: Duration, events: u64, enough: CancellationToken, late: TaskTracker) {
        let mut tick = tokio::time::interval(every);
        // After an outage they catch up, as a queue of customers would.
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while !(enough.is_cancelled() && self.ledger.committed() >= events) {
            tick.tick().await;
            self.pause.until(false).await;
            match rng.random_range(0..100) {
                0..4 => self.roll_back(drafts(&mut rng)).await,
                4..6 => {
                    let open = Duration::from_millis(rng.random_range(500..6_000));
                    let (producer, drafts) = (self.clone(), drafts(&mut rng));
                    producer.ledger.books().late += 1;
                    late.spawn(async move { producer.commit(drafts, open).await });
                }
                6..10 => {
                    let again = Duration::from_millis(rng.random_range(0..4_000));
                    let (producer, draft) = (self.clone(), draft(&mut rng));
                    late.spawn(async move { producer.commit_with_key(draft, again).await });
                }
                _ => self.commit(drafts(&mut rng), Duration::ZERO).await,
            }
        }
    }

    async fn roll_back(&self, drafts: Vec<Draft>) {
        let attempt = async {
            let mut transaction = self.db.begin().await?;
            insert(&mut transaction, &self.tenant, &drafts).await?;
            transaction.rollback().await
        };
        // However this ends, nothing is committed.
        let _: sqlx::Result<()> = attempt.await;
        let mut books = self.ledger.books();
        books.rolled_back += 1;
        books.never.extend(drafts.iter().map(|draft| draft.id));
    }

    /// Until it is committed. The transaction stays open for a while before its commit.
    pub async fn commit(&self, mut drafts: Vec<Draft>, open: Duration) {
        loop {
            let failure = match self.transact(&drafts, open).await {
                Ok(()) => return self.note(&drafts),
                Err(failure) => failure,
            };
            if matches!(failure, Failure::Unknown) && self.is_there(drafts[0].id).await {
                return self.note(&drafts);
            }
            for draft in &mut drafts {
                self.ledger.books().never.insert(draft.id);
                *draft = Draft::new(Uuid::now_v7(), draft.event_type);
            }
            // The server is away; nothing says when it is back.
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn transact(&self, drafts: &[Draft], open: Duration) -> Result<(), Failure> {
        let fill = async {
            let mut transaction = self.db.begin().await?;
            insert(&mut transaction, &self.tenant, drafts).await?;
            sqlx::Result::Ok(transaction)
        };
        let transaction = fill.await.map_err(|_: sqlx::Error| Failure::NotCommitted)?;
        tokio::select! {
            // A transaction that takes its time.
            () = tokio::time::sleep(open) => {}
            () = self.pause.until(true) => {}
        }
        transaction.commit().await.map_err(|_| Failure::Unknown)
    }

    fn note(&self, drafts: &[Draft]) {
        let at = self.clock.now();
        let mut books = self.ledger.books();
        books.transactions += 1;
        for draft in drafts {
            let fingerprint = fingerprint(draft.payload.as_bytes());
            books.committed.insert(draft.id, Committed { at, event_type: draft.event_type, fingerprint });
        }
    }

    /// One snapshot sees the event in the outbox or behind it, however it is being moved.
    async fn is_there(&self, id: Uuid) -> bool {
        let look = "select exists (select from posthaste.outbox where id = $1)
            or exists (select from posthaste.events where id = $1)";
        self.ledger.books().uncertain += 1;
        loop {
            match sqlx::query_scalar(look).bind(id).fetch_one(&self.db).await {
                Ok(there) => return there,
                // The server is away; nothing says when it is back.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// One event, whether or not the producers pause; how long it took.
    pub async fn commit_at_once(&self) -> Duration {
        let draft = Draft::new(Uuid::now_v7(), rand::random_range(0..TYPES.len()));
        let began = Instant::now();
        self.commit(vec![draft], Duration::ZERO).await;
        began.elapsed()
    }

    /// With an idempotency key there is nothing to look up: the same call again gives the same event. And once more later.
    async fn commit_with_key(&self, draft: Draft, again: Duration) {
        let key = draft.id.to_string();
        let mut draws = Vec::new();
        let first = self.emit(&draft, &key, &mut draws).await;
        let committed = Draft { id: first, ..draft };
        self.note(std::slice::from_ref(&committed));
        // The caller's own retry, some time later.
        tokio::time::sleep(again).await;
        self.pause.until(false).await;
        let second = self.emit(&committed, &key, &mut draws).await;
        let is_lost = self.ledger.books().lost.contains(&first);
        if is_lost {
            // The key was lost with the first one.
            self.note(&[Draft { id: second, ..committed }]);
            draws.retain(|id| *id != second);
        }
        let mut books = self.ledger.books();
        books.keyed += 1;
        if second != first && !is_lost {
            books.doubled_keys.push(format!("{key}: {first} and {second}"));
        }
        books.never.extend(draws.into_iter().filter(|id| *id != first));
    }

    /// Until it is committed; the ids that were given on the way go to `draws`.
    async fn emit(&self, draft: &Draft, key: &str, draws: &mut Vec<Uuid>) -> Uuid {
        let emit = "select posthaste.emit($1, $2, $3::text::json, $4)";
        loop {
            let attempt = async {
                let mut transaction = self.db.begin().await?;
                let call = sqlx::query_scalar(emit).bind(&self.tenant).bind(TYPES[draft.event_type].0);
                let id: Uuid = call.bind(&draft.payload).bind(key).fetch_one(&mut *transaction).await?;
                draws.push(id);
                transaction.commit().await.map(|()| id)
            };
            match attempt.await {
                Ok(id) => return id,
                // The server is away; nothing says when it is back.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

impl Draft {
    pub fn new(id: Uuid, event_type: usize) -> Draft {
        // With blanks that no serializer would write: the bytes must arrive as they are.
        let payload = format!("{{\"id\":  \"{id}\", \"type\" : \"{}\"\t}}", TYPES[event_type].0);
        Draft { id, event_type, payload }
    }
}

fn draft(rng: &mut StdRng) -> Draft {
    Draft::new(Uuid::now_v7(), rng.random_range(0..FOR_TWO))
}

fn drafts(rng: &mut StdRng) -> Vec<Draft> {
    (0..rng.random_range(1..=MOST)).map(|_| draft(rng)).collect()
}

async fn insert(transaction: &mut sqlx::PgConnection, tenant: &str, drafts: &[Draft]) -> sqlx::Result<()> {
    let insert = "insert into posthaste.outbox (id, tenant, event_type, payload)
        select id, $1, event_type, payload::json from unnest($2::uuid[], $3::text[], $4::text[]) as t (id, event_type, payload)";
    let ids: Vec<Uuid> = drafts.iter().map(|draft| draft.id).collect();
    let types: Vec<&str> = drafts.iter().map(|draft| TYPES[draft.event_type].0).collect();
    let payloads: Vec<&str> = drafts.iter().map(|draft| draft.payload.as_str()).collect();
    sqlx::query(insert).bind(tenant).bind(ids).bind(types).bind(payloads).execute(transaction).await.map(drop)
}
