//! The inbox of those who receive: each event once, whatever fails in the middle.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use posthaste::receiver::event::Event;
use posthaste::receiver::inbox::{Answer, Handled, Inbox, SCHEMA};
use serde_json::json;
use sqlx::{PgConnection, PgPool};

use super::harness::{Stack, eventually};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// With the table, made twice as at every start of a service, and a table that shows what was done twice.
async fn database() -> Stack {
    let stack = Stack::new().await;
    for statement in [SCHEMA, SCHEMA, "create table effects (event_id text not null)"] {
        sqlx::raw_sql(statement).execute(&stack.db).await.expect("the tables");
    }
    stack
}

fn event(id: &str) -> Event {
    Event {
        id: id.to_owned(),
        event_type: Some("order.created".to_owned()),
        timestamp: 1_700_000_000,
        signature: "v1,AAAA".to_owned(),
        body: Bytes::from_static(b"{ \"order\" : 7 }"),
    }
}

async fn effect(c: &mut PgConnection, id: &str) -> sqlx::Result<Answer> {
    sqlx::query("insert into effects values ($1)").bind(id).execute(c).await?;
    Ok(Answer::json(201, json!({"order": 7})))
}

async fn handle(inbox: &Inbox, pool: &PgPool, id: &str) -> Handled<String> {
    let work = async |c: &mut PgConnection| effect(c, id).await.map_err(|error| error.to_string());
    inbox.handle(pool, &event(id), SystemTime::now(), work).await.expect("the database is there")
}

/// Work that has an effect and then fails: by itself, or by a statement, after which PostgreSQL does nothing more.
async fn fail(inbox: &Inbox, pool: &PgPool, id: &str, statement: Option<&'static str>) -> Handled<String> {
    let work = async |c: &mut PgConnection| {
        effect(c, id).await.map_err(|error| error.to_string())?;
        match statement {
            Some(statement) => {
                sqlx::query(statement).execute(c).await.map(|_| Answer::new(200)).map_err(|e| e.to_string())
            }
            None => Err("no".to_owned()),
        }
    };
    inbox.handle(pool, &event(id), SystemTime::now(), work).await.expect("the database is there")
}

async fn effects(stack: &Stack) -> i64 {
    stack.number("select count(*) from effects").await
}

/// Status, code, and whether body and headers are there.
async fn row(stack: &Stack, id: &str) -> (String, Option<i32>, bool, bool) {
    let read = "select status, response_code, raw_body is not null, signature_headers is not null
                  from processed_webhooks where event_id = $1";
    sqlx::query_as(read).bind(id).fetch_one(&stack.db).await.expect(read)
}

#[tokio::test]
async fn a_duplicate_gets_the_earlier_answer_and_has_no_effect() {
    let stack = database().await;
    let inbox = Inbox::default();
    let answer = Answer::json(201, json!({"order": 7}));
    assert_eq!(handle(&inbox, &stack.db, "a").await, Handled::Done(answer.clone()));
    assert_eq!(handle(&inbox, &stack.db, "a").await, Handled::Duplicate(answer.clone()));
    assert_eq!(handle(&inbox, &stack.db, "b").await, Handled::Done(answer));
    assert_eq!(effects(&stack).await, 2);
    assert_eq!(row(&stack, "a").await, ("done".into(), Some(201), false, false));
}

#[tokio::test]
async fn what_fails_is_undone_is_kept_if_wished_and_may_come_again() {
    let stack = database().await;
    for (inbox, id, kept, statement) in [
        (Inbox::default(), "a", false, None),
        (Inbox::default().keeping_failed(), "b", true, None),
        (Inbox::default().keeping_failed(), "c", true, Some("select 1 / 0")),
    ] {
        let before = effects(&stack).await;
        for _ in 0..2 {
            assert!(matches!(fail(&inbox, &stack.db, id, statement).await, Handled::Failed(_)));
            assert_eq!(effects(&stack).await, before);
            assert_eq!(row(&stack, id).await, ("failed".into(), Some(500), kept, kept));
        }
        assert!(matches!(handle(&inbox, &stack.db, id).await, Handled::Done(_)));
        assert_eq!(row(&stack, id).await, ("done".into(), Some(201), false, false));
        assert_eq!(effects(&stack).await, before + 1);
    }
}

#[tokio::test]
async fn a_failed_event_is_handled_again_from_what_was_kept() {
    let stack = database().await;
    let inbox = Inbox::default().keeping_failed();
    fail(&inbox, &stack.db, "a", None).await;
    fail(&Inbox::default(), &stack.db, "not kept", None).await;
    assert_eq!(inbox.failed(&stack.db, 10).await.unwrap(), ["a"]);
    let again = async |id: &str, works: bool| {
        let work = async |c: &mut PgConnection, kept: &Event| {
            assert_eq!(*kept, event("a"), "as it came");
            effect(c, &kept.id).await.ok().filter(|_| works).ok_or("no")
        };
        inbox.again(&stack.db, id, work).await.unwrap()
    };
    assert_eq!(again("a", false).await, Some(Handled::Failed("no")));
    assert_eq!(inbox.failed(&stack.db, 10).await.unwrap(), ["a"], "still kept");
    assert!(matches!(again("a", true).await, Some(Handled::Done(_))));
    assert_eq!((again("a", true).await, again("not kept", true).await), (None, None));
    assert_eq!((effects(&stack).await, inbox.failed(&stack.db, 10).await.unwrap().len()), (1, 0));
    assert!(matches!(handle(&inbox, &stack.db, "a").await, Handled::Duplicate(_)), "the sender comes late");
}

/// Handles an event in a transaction that stays open.
async fn begin(stack: &Stack, inbox: &Inbox, id: &str) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut transaction = stack.db.begin().await.unwrap();
    let work = async |c: &mut PgConnection| effect(c, id).await;
    let handled = inbox.process(&mut transaction, &event(id), SystemTime::now(), work).await.unwrap();
    assert!(matches!(handled, Handled::Done(_)));
    transaction
}

#[tokio::test]
async fn a_second_request_waits_for_the_first_and_takes_its_place_when_that_is_undone() {
    let stack = database().await;
    let inbox = Inbox::default().with_wait(super::harness::PATIENCE);
    for commits in [true, false] {
        let id = if commits { "committed" } else { "undone" };
        let first = begin(&stack, &inbox, id).await;
        let second = tokio::spawn({
            let (inbox, pool) = (inbox.clone(), stack.db.clone());
            async move { handle(&inbox, &pool, id).await }
        });
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        eventually("the second one waits", async || (stack.number(waiting).await == 1).then_some(())).await;
        if commits {
            first.commit().await.unwrap()
        } else {
            first.rollback().await.unwrap()
        }
        let second = second.await.unwrap();
        assert_eq!(matches!(second, Handled::Duplicate(_)), commits, "{second:?}");
        assert_eq!(matches!(second, Handled::Done(_)), !commits, "{second:?}");
    }
    assert_eq!(effects(&stack).await, 2);
}

#[tokio::test]
async fn who_has_waited_long_enough_is_told_to_come_again_and_the_work_may_wait_as_before() {
    let stack = database().await;
    let inbox = Inbox::default().with_wait(Duration::from_millis(20));
    let first = begin(&stack, &inbox, "a").await;
    assert!(matches!(handle(&inbox, &stack.db, "a").await, Handled::Busy(_)));
    first.commit().await.unwrap();
    assert!(matches!(handle(&inbox, &stack.db, "a").await, Handled::Duplicate(_)));
    let look = async |c: &mut PgConnection| sqlx::query_scalar::<_, String>("show lock_timeout").fetch_one(c).await;
    let mut transaction = stack.db.begin().await.unwrap();
    sqlx::query("set local lock_timeout = '7s'").execute(&mut *transaction).await.unwrap();
    let work = async |c: &mut PgConnection| Ok::<_, sqlx::Error>(Answer::json(200, look(c).await?.into()));
    let handled = inbox.process(&mut transaction, &event("b"), SystemTime::now(), work).await.unwrap();
    assert!(matches!(handled, Handled::Done(answer) if answer == Answer::json(200, json!("7s"))));
}

#[tokio::test]
async fn a_session_that_dies_in_the_middle_leaves_nothing_in_the_way() {
    let stack = database().await;
    let inbox = Inbox::default();
    let work = async |c: &mut PgConnection| {
        effect(c, "a").await?;
        sqlx::query("select pg_terminate_backend(pg_backend_pid())").execute(c).await?;
        Ok::<_, sqlx::Error>(Answer::new(200))
    };
    let died = inbox.handle(&stack.db, &event("a"), SystemTime::now(), work).await;
    assert!(died.is_err(), "{died:?}");
    assert!(matches!(handle(&inbox, &stack.db, "a").await, Handled::Done(_)));
    assert_eq!(effects(&stack).await, 1);
}

#[tokio::test]
async fn an_event_is_forgotten_when_its_time_is_over_and_not_before() {
    let stack = database().await;
    let inbox = Inbox::default().with_ttl(2 * DAY);
    handle(&inbox, &stack.db, "done").await;
    fail(&inbox, &stack.db, "failed", None).await;
    let many =
        "insert into processed_webhooks select 'old ' || n, 'x', now(), 'done', 200, null, now() + interval '1 hour'
                  from generate_series(1, 2500) n";
    stack.execute(many).await;
    let now = SystemTime::now();
    assert_eq!(inbox.clean_up(&stack.db, now).await.unwrap(), 0);
    assert_eq!(inbox.clean_up(&stack.db, now + DAY).await.unwrap(), 2500);
    let work = async |c: &mut PgConnection| effect(c, "done").await.map_err(|error| error.to_string());
    let late = inbox.handle(&stack.db, &event("done"), now + 3 * DAY, work).await.unwrap();
    assert!(matches!(late, Handled::Done(_)), "new again, though nobody has cleaned up: {late:?}");
    assert_eq!(inbox.clean_up(&stack.db, now + 3 * DAY).await.unwrap(), 1, "the failed one");
    assert_eq!(inbox.clean_up(&stack.db, now + 6 * DAY).await.unwrap(), 1);
}
