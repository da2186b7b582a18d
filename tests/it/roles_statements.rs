//! What the service seldom does, statement by statement, under the roles: a right that is missing would be found in the
//! night in which it is needed.

use std::fmt::Debug;
use std::time::Duration;

use chrono::Utc;
use posthaste::domain::circuit::Circuit;
use posthaste::domain::dead_reason::DeadReason;
use posthaste::domain::decision::Decision;
use posthaste::domain::flows::Let;
use posthaste::domain::ids::DeliveryKey;
use posthaste::domain::turns::Turns;
use posthaste::store::claim::{Ceilings, Claim};
use posthaste::store::days::Day;
use posthaste::store::deliveries::Hold;
use posthaste::store::history::Dropping;
use posthaste::store::reconcile::Proofs;
use posthaste::store::settle::Settlement;
use posthaste::store::{self, Db, Options};
use posthaste::store::{
    activity, circuits, claim, deliveries, ended, endpoints, events, held, history, idempotency, markers,
};
use posthaste::store::{
    leftovers, outbox, partitions, pauses, reconcile, relay_batches, release, sendable, settle, stats, suspects, told,
    wake,
};
use uuid::Uuid;

use crate::harness::{Roles, Stack};

const RELAY: i64 = 17;
/// As `posthaste migrate` does with `operations.tenant`.
const TELL: &str = "create or replace function posthaste.operations_tenant() returns text
    language sql stable parallel safe return 'operations'::text";
const HOUR: Duration = Duration::from_secs(3600);

fn store_as(roles: &Roles, role: &str) -> Db {
    Db::new(&Options {
        found: Default::default(),
        url: roles.url(role).into(),
        tls: posthaste::tls::Files::default(),
        max_connections: 2,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(30),
        lock_timeout: Duration::from_secs(30),
        application_name: "posthaste tests".into(),
        service: true,
        asynchronous_commit: false,
        by_reference: false,
    })
    .unwrap()
}

/// The server let it be done.
#[track_caller]
fn done<T: Debug>(answer: store::Result<T>) -> T {
    answer.unwrap_or_else(|error| panic!("{error}"))
}

/// An endpoint and a dead delivery of it, made pending again.
async fn pending(stack: &Stack) -> DeliveryKey {
    let endpoint_id = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    let event_id = stack.dead(endpoint_id, ("acme", "order.created"), "exhausted", 5).await;
    stack
        .execute("update posthaste.deliveries set status = 'pending', dead_reason = null, next_attempt_at = now()")
        .await;
    DeliveryKey { event_id, endpoint_id }
}

#[tokio::test]
async fn a_relay_may_run_each_of_its_statements() {
    let stack = Stack::new().await;
    let roles = Roles::of(&stack).await;
    let key = pending(&stack).await;
    stack.execute(TELL).await;
    let (db, day, ids) = (store_as(&roles, "relay"), Day::of(key.event_id), [key.endpoint_id]);
    stack.emit("acme", "order.created", "{}").await;
    done(outbox::backlog(&db).await);
    done(outbox::look(&db).await);
    done(outbox::look_beside(&db, &["other".to_owned()]).await);
    let (tenant, row) = done(outbox::next_in_turn(&db, "").await).unwrap();
    let ceilings = Ceilings { default: 5, names: Vec::new(), values: Vec::new() };
    let mut turns = Turns::new(10);
    turns.scan_next();
    for ask in [Turns::ask_for(tenant, row), turns.ask(0, &[])] {
        let claim = Claim { relay: RELAY, ask: &ask, without: &[], ceilings: &ceilings, confirmed: &[1], behind: &ids };
        done(claim::claim(&db, claim).await);
    }
    let aside = stack.emit("acme", "order.created", "{}").await;
    assert!(done(outbox::set_aside(&db, aside, "a test").await));
    done(partitions::make_ahead(&db).await);
    done(partitions::make_for_outbox(&db).await);
    done(idempotency::remove_expired(&db).await);
    done(activity::prune(&db).await);
    done(suspects::remove_old(&db).await);
    done(told::prune(&db).await);
    for of_endpoints in
        [circuits::half_open_due(&db).await, circuits::disable_stale(&db, HOUR).await, pauses::end(&db).await]
    {
        assert!(done(of_endpoints).is_empty());
    }
    done(circuits::close_all(&db).await);
    done(circuits::count_open(&db).await);
    done(pauses::count(&db).await);
    done(endpoints::longest_timeout(&db).await);
    done(stats::watched(&db).await);
    done(stats::unfinished(&db).await);
    let days = done(held::days(&db).await);
    done(held::days_with_any(&db, &days).await);
    done(held::count(&db, &days, 10).await);
    done(held::page(&db, day, Uuid::nil(), 10).await);
    done(held::of(&db, day, &ids).await);
    done(ended::removed(&db, day, &ids, 10).await);
    done(ended::expired(&db, day, &ids, HOUR, 10).await);
    done(release::became(&db, &[Let { key, attempts: 1 }]).await);
    done(release::release(&db, RELAY, day, &[(key.endpoint_id, 1)]).await);
    done(release::listed(&db, RELAY, 10).await);
    done(wake::sleeping(&db).await);
    done(wake::awake(&db).await);
    markers_and_losses(&db).await;
    an_old_day(&stack, &db).await;
    done(deliveries::mark_dead(&db, key, 2, DeadReason::Unpublishable, Some("a test")).await).unwrap();
    let told = "select count(*) from posthaste.outbox where event_type = 'delivery.dead'";
    assert_eq!(stack.number(told).await, 1);
}

async fn an_old_day(stack: &Stack, db: &Db) {
    let make = "select posthaste.create_partitions((now() at time zone 'utc')::date - 40, (now() at time zone 'utc')::date - 40)";
    stack.execute(make).await;
    let old = Day::from((Utc::now() - chrono::TimeDelta::days(40)).date_naive());
    assert!(done(history::now_ms(db).await) > 0);
    assert!(!done(history::facts(db, old).await).unfinished);
    done(history::expire(db, old, 0, 10).await);
    assert_eq!(done(history::detach(db, old).await), None);
    assert_eq!(done(history::detached(db).await), [old]);
    for expected in [Dropping::Goes, Dropping::Goes, Dropping::Gone, Dropping::Attached] {
        assert_eq!(done(history::drop_detached(db, old).await), expected);
    }
    assert!(!done(history::exists(db, old).await));
    done(leftovers::remove_set_aside(db, 30).await);
    done(leftovers::remove_requeues(db, 30).await);
    done(leftovers::remove_secrets(db).await);
}

async fn markers_and_losses(db: &Db) {
    done(markers::now(db).await);
    done(markers::is_recorded(db, "retry", Utc::now()).await);
    done(markers::proof(db, "retry", HOUR).await);
    done(markers::prune(db, HOUR).await);
    let proofs = Proofs { retry: Some(Utc::now()), deliver: None };
    done(reconcile::count(db, proofs).await);
    let lost = done(reconcile::republish(db, RELAY, proofs, 10).await);
    for other in done(relay_batches::other_relays(db, 1).await) {
        done(relay_batches::of_relay(db, other, &[], 10).await);
    }
    if let Some(batch) = lost.id {
        done(relay_batches::unfinished(db, batch, None).await);
        done(relay_batches::unlist(db, &[batch]).await);
    }
}

#[tokio::test]
async fn a_worker_may_run_each_of_its_statements() {
    let stack = Stack::new().await;
    let roles = Roles::with(&stack, &[("broker.payload", "reference")]).await;
    let key = pending(&stack).await;
    stack.execute(TELL).await;
    let (db, ids) = (store_as(&roles, "worker"), [key.endpoint_id]);
    done(deliveries::read(&db, &[key]).await);
    let payloads = done(events::payloads(&db, &[key.event_id]).await);
    assert_eq!(payloads[&key.event_id].as_ref(), b"{}", "only by reference");
    for n in [2, 3] {
        done(suspects::begin(&db, key, n).await);
        done(suspects::unfinished(&db, key, n).await);
        done(suspects::take_back(&db, key, n).await);
    }
    done(suspects::end(&db, key).await);
    done(markers::record(&db, "retry", Utc::now()).await);
    let known = done(sendable::read(&db, &ids).await);
    done(sendable::changed(&db, &ids, &[&known[0].version]).await);
    let last_error = Some(activity::LastError { error: "a test".into(), ago_ms: 1 });
    let report =
        activity::Report { endpoint_id: ids[0], in_flight: 1, attempts: 1, failures: 1, last_error, limited: None };
    let answers = async || done(sendable::read(&db, &ids[..1]).await)[0].answers;
    for _ in 0..2 {
        done(activity::report(&db, "a worker", std::slice::from_ref(&report)).await);
    }
    assert!(!answers().await, "its only attempt failed");
    let report = activity::Report { attempts: 2, ..report };
    done(activity::report(&db, "another worker", std::slice::from_ref(&report)).await);
    assert!(answers().await, "who has just started may rely on it");
    assert!(done(circuits::open(&db, ids[0], Circuit::default(), 0, 1).await));
    done(circuits::close(&db, ids[0]).await);
    done(circuits::heal(&db, ids[0]).await);
    assert!(done(pauses::pause(&db, ids[0], HOUR).await));
    let hold = Hold { key, attempt: 2, delay_ms: 0 };
    assert_eq!(done(deliveries::hold(&db, &[hold]).await), [true]);
    done(deliveries::hold_unlocked(&db, &[hold]).await);
    let settlement = Settlement {
        key,
        attempt: 2,
        decision: Decision::Dead(DeadReason::Gone),
        budget: None,
        status_code: Some(410),
        error: None,
        duration_ms: 1,
        started_at: Utc::now(),
        request_headers: Vec::new(),
        response_headers: Vec::new(),
        response_body: None,
    };
    assert!(done(settle::settle(&db, "a worker", &[&settlement]).await)[0].is_some());
    assert!(done(endpoints::disable_gone(&db, &ids).await).is_empty(), "the settlement has disabled it");
    stack.execute("update posthaste.endpoints set status = 'enabled'").await;
    done(endpoints::disable_gone(&db, &ids).await);
    stack.execute("update posthaste.deliveries set status = 'pending'").await;
    done(deliveries::mark_dead(&db, key, 3, DeadReason::Poison, None).await).unwrap();
    let told = "select string_agg(distinct event_type, ' ' order by event_type) from posthaste.outbox where tenant = 'operations'";
    let told: String = sqlx::query_scalar(told).fetch_one(&stack.db).await.unwrap();
    let all = "delivery.dead endpoint.circuit_opened endpoint.disabled endpoint.paused";
    assert_eq!(told, all);
}
