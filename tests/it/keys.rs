//! The encryption keys: a wrong one is refused before it does harm, and changing them fails no signature.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use posthaste::domain::ids;
use posthaste::domain::sealing::Key;
use posthaste::domain::signature::Secret;
use posthaste::receiver::verify::{Headers, Verifier};
use serde_json::json;
use uuid::Uuid;

use crate::harness::{PATIENCE, Process, Receiver, Request, Stack, eventually, within};

/// The one that stacks are started with.
const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
const THIRD: &str = "//////////////////////////////////////////8=";
const KEY: &str = "security.encryption_key";

fn id(key: &str) -> String {
    Key::parse(key).unwrap().id()
}

/// What the n-th endpoint signs with.
fn secret(n: usize) -> Vec<u8> {
    let mut secret = vec![7; 32];
    secret[..8].copy_from_slice(&n.to_be_bytes());
    secret
}

/// Endpoints at `/0`, `/1` and so on, each of a tenant of that name, sealed with the first key: a secret and a header.
async fn endpoints(stack: &Stack, receiver: &Receiver, count: usize) -> Vec<Uuid> {
    let key = Key::parse(FIRST).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    let ids: Vec<Uuid> = (0..count).map(|_| ids::new_v7(now, rand::random())).collect();
    let urls: Vec<String> = (0..count).map(|n| receiver.url(&format!("/{n}"))).collect();
    let tenants: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    let seal = |id: &Uuid, plain: &[u8]| key.seal(rand::random(), id.as_bytes(), plain).unwrap();
    let secrets: Vec<Vec<u8>> = ids.iter().zip(0..).map(|(id, n)| seal(id, &secret(n))).collect();
    let header = |(id, n): (&Uuid, usize)| {
        let pairs = serde_json::to_vec(&[("x-number", n.to_string())]).unwrap();
        key.seal_blob(rand::random(), id.as_bytes(), &pairs).unwrap()
    };
    let headers: Vec<Vec<u8>> = ids.iter().zip(0..).map(header).collect();
    let insert = "with e as (
           insert into posthaste.endpoints (id, tenant, url, headers)
           select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]))
         insert into posthaste.endpoint_secrets (endpoint_id, kind, key_id, key_ciphertext)
         select id, 'whsec', $5, sealed from unnest($1::uuid[], $6::bytea[]) as s (id, sealed)";
    let insert = sqlx::query(insert).bind(&ids).bind(tenants).bind(urls).bind(headers).bind(key.id()).bind(secrets);
    insert.execute(&stack.db).await.unwrap();
    ids
}

/// The signature and the custom header are those of the endpoint at that path.
fn is_right(request: &Request) -> bool {
    let number = &request.path[1..];
    let verifier: Verifier = Secret::from_bytes(secret(number.parse().unwrap())).unwrap().reveal().parse().unwrap();
    let headers = Headers::read(|name| Some(request.header(name)).filter(|value| !value.is_empty()));
    verifier.verify(headers, &request.body, SystemTime::now()).is_ok() && request.header("x-number") == number
}

/// How many values this key has sealed.
async fn sealed_with(stack: &Stack, key: &str) -> i64 {
    let count = "select (select count(*) from posthaste.endpoint_secrets where key_id = $1)
                      + (select count(*) from posthaste.endpoints where encode(substr(headers, 1, 8), 'escape') = $1)";
    sqlx::query_scalar(count).bind(id(key)).fetch_one(&stack.db).await.unwrap()
}

/// Workers with these keys take the place of those that run.
async fn roll(stack: &Stack, workers: &mut Vec<Process>, keys: &str) {
    let new = [stack.start("worker", &[(KEY, keys)]).await, stack.start("worker", &[(KEY, keys)]).await];
    for old in std::mem::replace(workers, new.into()) {
        old.terminate();
        assert_eq!(old.exit_code().await, Some(0), "{}", old.log());
        assert!(!old.log().contains("cannot be opened"), "{}", old.log());
    }
}

/// Until so many requests have come. There may be very many endpoints.
async fn arrived(receiver: &Receiver, requests: usize) {
    let patience = PATIENCE * (1 + requests / 10_000) as u32;
    within(patience, "the requests", async || (receiver.count() >= requests).then_some(())).await;
}

/// `POSTHASTE_TEST_ENDPOINTS` asks for another number of endpoints than 300.
#[tokio::test]
async fn keys_are_rotated_twice_under_load_and_no_signature_fails() {
    const AT_ONCE: usize = 300;
    let count: usize = std::env::var("POSTHASTE_TEST_ENDPOINTS").map_or(300, |count| count.parse().unwrap());
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    endpoints(&stack, &receiver, count).await;
    let _relay = stack.relay().await;
    let mut workers = Vec::new();
    roll(&stack, &mut workers, FIRST).await;
    let over = AtomicBool::new(false);
    let load = async {
        let (mut emitted, mut first) = (0, 0);
        while !over.load(Ordering::Relaxed) {
            let emit = "select posthaste.emit(n::text, 'order.created', '{}') from generate_series($1, $2 - 1) n";
            let end = count.min(first + AT_ONCE);
            let emit = sqlx::query_scalar(emit).bind(first as i32).bind(end as i32);
            let events: Vec<Uuid> = emit.fetch_all(&stack.db).await.unwrap();
            emitted += events.len();
            first = end % count;
            // A load, not a flood: the next ones are sent when these have arrived.
            arrived(&receiver, emitted).await;
        }
        emitted
    };
    let rotations = async {
        for (old, new) in [(FIRST, SECOND), (SECOND, THIRD)] {
            let both = format!("{new},{old}");
            roll(&stack, &mut workers, &both).await;
            let began = Instant::now();
            let rotated = stack.cli_with(&["keys", "rotate", "--json"], &[(KEY, &both)]).await.json();
            println!("the keys of {count} endpoints were rotated in {:?}", began.elapsed());
            assert_eq!((&rotated["resealed"]["secrets"], &rotated["locked"]), (&json!(count), &json!(0)));
            assert_eq!((&rotated["resealed"]["headers"], &rotated["unopened_values"]), (&json!(count), &json!(0)));
            assert_eq!((sealed_with(&stack, old).await, sealed_with(&stack, new).await), (0, 2 * count as i64));
            // Every endpoint once with what is sealed anew, and once without the old key.
            let so_far = receiver.count();
            arrived(&receiver, so_far + 2 * count).await;
            roll(&stack, &mut workers, new).await;
            arrived(&receiver, so_far + 5 * count).await;
        }
        over.store(true, Ordering::Relaxed);
    };

    let (emitted, ()) = tokio::join!(load, rotations);

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), emitted as i64)].into());
    let requests = receiver.requests();
    let wrong = requests.iter().find(|request| !is_right(request));
    assert!(wrong.is_none(), "{wrong:?}");
    assert_eq!(requests.len(), emitted, "none was sent twice");
    let more = "select count(*) from posthaste.deliveries where attempts <> 1";
    assert_eq!(stack.number(more).await, 0, "and none needed another attempt");
}

#[tokio::test]
async fn a_rotation_that_is_killed_is_run_again_and_overwrites_nothing() {
    const ENDPOINTS: usize = 600;
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let ids = endpoints(&stack, &receiver, ENDPOINTS).await;
    let slow = "create function slowly() returns trigger language plpgsql as
                'begin perform pg_sleep(0.005); return new; end'";
    stack.execute(slow).await;
    stack
        .execute(
            "create trigger slowly before update on posthaste.endpoint_secrets for each row execute function slowly()",
        )
        .await;
    let both = format!("{SECOND},{FIRST}");
    let planned = stack.cli_with(&["keys", "rotate", "--dry-run", "--json"], &[(KEY, &both)]).await.json();
    assert_eq!(planned["resealed"]["secrets"], json!(ENDPOINTS));
    assert_eq!(sealed_with(&stack, SECOND).await, 0, "a dry run changes nothing");

    let rotation = stack.spawn_command(&["keys", "rotate"], &[(KEY, &both)]);
    eventually("it has begun", async || (sealed_with(&stack, SECOND).await > 0).then_some(())).await;
    rotation.kill();
    let left = sealed_with(&stack, FIRST).await;
    assert!((1..2 * ENDPOINTS as i64).contains(&left), "{left} of {ENDPOINTS} are sealed with the old key");
    // Meanwhile one gets another secret and another header, which a rotation must not undo, and another one is locked.
    let (changed, changed_text) = (ids[ENDPOINTS - 1], ids[ENDPOINTS - 1].to_string());
    let again = stack.spawn_command(&["keys", "rotate", "--json"], &[(KEY, &both)]);
    let rotate = ["endpoint", "rotate-secret", &changed_text, "--grace", "1h", "--json"];
    let new = stack.cli_with(&rotate, &[(KEY, &both)]).await.json()["secret"].as_str().unwrap().to_owned();
    stack.cli_with(&["endpoint", "set", &changed_text, "--header", "X-New: 1"], &[(KEY, &both)]).await.ok();
    assert_eq!(again.exit_code().await, Some(0), "{}", again.log());

    assert_eq!(sealed_with(&stack, FIRST).await, 0);
    let live = "select count(*) from posthaste.endpoint_secrets where endpoint_id = $1";
    let live: i64 = sqlx::query_scalar(live).bind(changed).fetch_one(&stack.db).await.unwrap();
    assert_eq!(live, 2, "the new one and the one before");
    stack.execute("drop trigger slowly on posthaste.endpoint_secrets").await;
    stack.start("run", &[(KEY, SECOND)]).await;
    let last = (ENDPOINTS - 1).to_string();
    for tenant in ["0", "17", &last] {
        stack.emit(tenant, "order.created", "{}").await;
    }
    for request in receiver.wait_for(3).await {
        let of_changed = request.path[1..] == last;
        let verifier: Verifier = new.parse().unwrap();
        let headers = Headers::read(|name| Some(request.header(name)).filter(|value| !value.is_empty()));
        let by_new = verifier.verify(headers, &request.body, SystemTime::now()).is_ok();
        assert_eq!(by_new, of_changed, "{}", request.path);
        assert!(if of_changed { request.header("x-new") == "1" } else { is_right(&request) }, "{request:?}");
    }
}

#[tokio::test]
async fn what_is_locked_is_left_and_said() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let ids = endpoints(&stack, &receiver, 3).await;
    let mut lock = stack.db.begin().await.unwrap();
    let locked = sqlx::query("select from posthaste.endpoints where id = $1 for update").bind(ids[1]);
    locked.execute(&mut *lock).await.unwrap();
    let both = format!("{SECOND},{FIRST}");

    let rotated = stack.cli_with(&["keys", "rotate"], &[(KEY, &both)]).await;

    assert_eq!(rotated.code, 1, "{rotated:?}");
    assert!(rotated.stderr.contains("1 values are locked by somebody"), "{}", rotated.stderr);
    assert_eq!(sealed_with(&stack, FIRST).await, 1);
    lock.rollback().await.unwrap();
    stack.cli_with(&["keys", "rotate"], &[(KEY, &both)]).await.ok();
    assert_eq!((sealed_with(&stack, FIRST).await, sealed_with(&stack, SECOND).await), (0, 6));
}

#[tokio::test]
async fn before_a_rotation_the_old_key_seals_and_after_it_nobody_can_seal_with_it() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    let both = format!("{SECOND},{FIRST}");
    let rotate = ["endpoint", "rotate-secret", &endpoint];
    stack.cli_with(&rotate, &[(KEY, &both)]).await.ok();
    assert_eq!(sealed_with(&stack, FIRST).await, 2, "workers that have not heard of the new key open it");
    let foreign = stack.cli_with(&["keys", "rotate"], &[(KEY, SECOND)]).await;
    assert_eq!(foreign.code, 64, "{foreign:?}");
    assert!(foreign.stderr.contains("is not among those that are configured"), "{}", foreign.stderr);

    stack.cli_with(&["keys", "rotate"], &[(KEY, &both)]).await.ok();

    for keys in [FIRST, THIRD] {
        let refused = stack.cli_with(&rotate, &[(KEY, keys)]).await;
        assert_eq!(refused.code, 64, "{refused:?}");
        assert!(refused.stderr.contains(&id(SECOND)), "it names the key that is needed: {}", refused.stderr);
    }
    stack.cli_with(&rotate, &[(KEY, &both)]).await.ok();
    // A command that had read the keys before the rotation began, or one of an older version.
    for late in [
        "insert into posthaste.endpoint_secrets (endpoint_id, kind, key_id, key_ciphertext)
         select endpoint_id, kind, '{}', key_ciphertext from posthaste.endpoint_secrets limit 1",
        "update posthaste.endpoints set headers = '{}ciphertext'",
    ] {
        let late = late.replace("{}", &id(FIRST));
        let refused = sqlx::query(sqlx::AssertSqlSafe(late)).execute(&stack.db).await.unwrap_err().to_string();
        assert!(
            refused.contains("is not what this database is sealed with") && refused.contains(&id(SECOND)),
            "{refused}"
        );
    }
    assert_eq!(sealed_with(&stack, FIRST).await, 0);
}

#[tokio::test]
async fn a_worker_without_the_key_does_not_start_and_one_without_an_older_key_says_so_and_spends_no_attempt() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let old = stack.endpoint("old", &receiver.url("/old"), &[]).await.id.to_string();
    for service in ["worker", "run"] {
        let process = stack.spawn(service, &[(KEY, SECOND)]);
        assert_eq!(process.exit_code().await, Some(64), "{}", process.log());
        let said = format!("the one that this database is sealed with, which has the id {}", id(FIRST));
        eventually("it says which key it needs", async || process.log().contains(&said).then_some(())).await;
    }
    // The first key was lost.
    let url = receiver.url("/new");
    let add = ["endpoint", "add", "--tenant", "new", "--url", &url, "--new-key"];
    stack.cli_with(&add, &[(KEY, SECOND)]).await.ok();
    stack.relay().await;
    let worker = stack.start("worker", &[(KEY, SECOND)]).await;

    let (left, sent) = (stack.emit("old", "a.b", "{}").await, stack.emit("new", "a.b", "{}").await);

    stack.wait_status(sent, "delivered").await;
    let held = stack.wait_status(left, "held").await;
    assert_eq!((held.attempts, receiver.count()), (0, 1));
    let wait = held.next_attempt_at.unwrap() - held.updated_at;
    assert!(wait.to_std().unwrap() >= Duration::from_secs(1), "{wait}");
    let log = worker.log();
    assert!(
        log.contains("no configured encryption key opens these values") && log.contains("cannot be opened"),
        "{log}"
    );
    let listed = stack.cli_with(&["keys", "list", "--json"], &[(KEY, SECOND)]).await.json();
    assert_eq!(listed["unreadable"][0]["endpoint_id"], json!(old));
    let of = |key: &str, name: &str| {
        let keys = listed["keys"].as_array().unwrap();
        keys.iter().find(|listed| listed["key_id"] == id(key)).unwrap()[name].clone()
    };
    assert_eq!(
        (of(FIRST, "configured"), of(FIRST, "database"), of(FIRST, "secrets")),
        (json!("no"), json!("retired"), json!(1))
    );
    assert_eq!((of(SECOND, "configured"), of(SECOND, "database")), (json!("first"), json!("seals")));
    let people = stack.cli_with(&["keys", "list"], &[(KEY, SECOND)]).await.ok().stdout;
    assert!(people.contains("1 values are opened by no configured key") && people.contains(&old), "{people}");
    let rotated = stack.cli_with(&["keys", "rotate", "--json"], &[(KEY, SECOND)]).await;
    assert_eq!(rotated.code, 1, "{rotated:?}");
    assert!(rotated.stderr.contains("1 values do not open"), "{}", rotated.stderr);
}
