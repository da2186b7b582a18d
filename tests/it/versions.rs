//! What a worker knows of an endpoint has a version, and no change keeps it.

use posthaste::store::sendable;
use uuid::Uuid;

use crate::harness::Stack;
use crate::settle_agrees::store;

#[tokio::test]
async fn every_change_of_an_endpoint_or_its_secrets_is_seen_also_one_that_was_committed_late() {
    let stack = Stack::new().await;
    let endpoint = stack.endpoint("acme", "https://example.com/", &[]).await.id;
    let other = stack.endpoint("acme", "https://example.com/", &[]).await.id;
    let db = store(&stack);
    let version = async |id: Uuid| sendable::read(&db, &[id]).await.unwrap().pop().unwrap().version;
    let (mut known, of_other) = (version(endpoint).await, version(other).await);
    let changed =
        async |known: &str| sendable::changed(&db, &[endpoint, other], &[known, of_other.as_str()]).await.unwrap();
    assert!(changed(&known).await.is_empty());

    for statement in [
        "update posthaste.endpoints set url = 'https://example.com/new' where id = $1",
        "update posthaste.endpoints set circuit_state = 'open' where id = $1",
        "insert into posthaste.endpoint_secrets (endpoint_id, kind, key_id, key_ciphertext)
         select endpoint_id, kind, key_id, '' from posthaste.endpoint_secrets where endpoint_id = $1 limit 1",
        "update posthaste.endpoint_secrets set expires_at = now() where endpoint_id = $1 and key_ciphertext = ''",
        "delete from posthaste.endpoint_secrets where endpoint_id = $1 and key_ciphertext = ''",
    ] {
        // It gets its number before a younger transaction commits, and commits after that one was seen.
        let mut late = stack.db.begin().await.unwrap();
        sqlx::query(statement).bind(endpoint).execute(&mut *late).await.unwrap();
        stack.endpoint("younger", "https://example.com/", &[]).await;
        assert!(changed(&known).await.is_empty(), "not committed: {statement}");
        late.commit().await.unwrap();
        assert_eq!(changed(&known).await, [endpoint], "{statement}");
        known = version(endpoint).await;
        assert!(changed(&known).await.is_empty(), "{statement}");
    }
    stack.cli(&["endpoint", "remove", &endpoint.to_string(), "--yes"]).await.ok();
    assert_eq!(changed(&known).await, [endpoint], "removed");
}
