//! A producer that may emit for some tenants only.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::harness::{Receiver, Roles, Stack};

/// The name of a role that needs quoting.
const ROLE: &str = "Shop \"1\"";

struct Confined {
    roles: Roles,
    stack: Stack,
    role: String,
}

impl Confined {
    async fn to(tenants: &str) -> Confined {
        let stack = Stack::new().await;
        let roles = Roles::of(&stack).await;
        let role = format!("{}_{ROLE}", roles.prefix);
        let confined = Confined { stack, roles, role };
        let make = format!("create role {} login password 'not-a-secret'", quoted(&confined.role));
        confined.superuser(&make).await.unwrap();
        confined.superuser(&confined.confine(tenants)).await.unwrap();
        confined
    }

    fn confine(&self, tenants: &str) -> String {
        format!("select posthaste.confine_producer('{}', '{}')", self.role, tenants.replace('\'', "''"))
    }

    async fn superuser(&self, statement: &str) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&self.stack.db).await.map(drop)
    }

    async fn connect(&self) -> PgConnection {
        let mut url = url::Url::parse(&self.stack.binary.database_url).unwrap();
        url.set_username(&self.role).unwrap();
        url.set_password(Some("not-a-secret")).unwrap();
        PgConnection::connect(url.as_str()).await.unwrap()
    }

    fn emit(&self) -> String {
        let function = quoted(&format!("emit_{}", self.role));
        format!("select posthaste.{function}($1, 'order.created', '{{\"n\": 1}}', $2)")
    }

    async fn remove(self) {
        let remove = format!("drop owned by {0}; drop role {0}", quoted(&self.role));
        self.superuser(&remove).await.unwrap();
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[tokio::test]
async fn a_confined_producer_emits_for_its_tenants_in_its_transaction_and_for_no_other() {
    let (confined, receiver) = (Confined::to("{acme,\"o'neill, ltd\"}").await, Receiver::start());
    for tenant in ["acme", "o'neill, ltd", "other"] {
        confined.stack.endpoint(tenant, &receiver.url("/"), &[]).await;
    }
    let process = confined.stack.run().await;
    let mut producer = confined.connect().await;
    let emit = confined.emit();
    let mut transaction = producer.begin().await.unwrap();
    for tenant in ["acme", "o'neill, ltd"] {
        sqlx::query(AssertSqlSafe(emit.clone())).bind(tenant).bind("key-1").execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
    receiver.wait_for(2).await;

    let refused = sqlx::query(AssertSqlSafe(emit.clone())).bind("other").bind("key-1").execute(&mut producer).await;

    let refused = refused.unwrap_err();
    let error = refused.as_database_error().unwrap();
    assert_eq!(error.code().unwrap(), "42501");
    assert!(error.message().starts_with("posthaste: tenant: 'other' is not one that this producer"), "{error}");
    for way_round in [
        "select posthaste.emit('other', 'order.created', '{}')",
        "insert into posthaste.outbox (tenant, event_type, payload) values ('acme', 'order.created', '{}')",
        "select count(*) from posthaste.outbox",
    ] {
        let refused = sqlx::query(way_round).execute(&mut producer).await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "42501", "{way_round}");
    }
    let again = sqlx::query_scalar(AssertSqlSafe(emit)).bind("acme").bind("key-1").fetch_one(&mut producer).await;
    let again: Uuid = again.unwrap();
    confined.stack.wait_settled().await;
    assert_eq!(confined.stack.number("select count(*) from posthaste.events").await, 2, "{again} was there");
    process.kill();
    producer.close().await.unwrap();
    confined.remove().await;
}

#[tokio::test]
async fn the_tenants_of_a_producer_can_be_changed_and_nobody_else_gets_its_function() {
    let confined = Confined::to("{acme}").await;
    let other = sqlx::query(AssertSqlSafe(confined.emit())).bind("acme").bind("key");
    let other = other.execute(&mut confined.roles.connect("producer").await).await.unwrap_err();
    assert_eq!(other.as_database_error().unwrap().code().unwrap(), "42501");

    confined.superuser(&confined.confine("{zoo}")).await.unwrap();
    // The list of roles says nothing about it, and takes nothing away.
    confined.roles.apply(&confined.stack, &[]).await;

    let mut producer = confined.connect().await;
    for (tenant, accepted) in [("acme", false), ("zoo", true)] {
        let emit = sqlx::query(AssertSqlSafe(confined.emit())).bind(tenant).bind("key").execute(&mut producer).await;
        assert_eq!(emit.is_ok(), accepted, "{tenant}: {emit:?}");
    }
    producer.close().await.unwrap();
    confined.remove().await;
}

#[tokio::test]
async fn who_may_emit_for_all_cannot_be_confined_and_bad_lists_are_refused_by_name() {
    let confined = Confined::to("{acme}").await;
    let member = format!("grant {} to {}", confined.roles.name("producer"), quoted(&confined.role));
    for (tenants, said) in [
        ("{}", "posthaste: tenants: has 0 names; use 1 to 100"),
        ("{a,null}", "posthaste: tenants: holds a name that is null"),
        ("{a,\"\"}", "posthaste: tenants: holds a name that is null, empty"),
    ] {
        let refused = confined.superuser(&confined.confine(tenants)).await.unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
    confined.superuser(&member).await.unwrap();
    let refused = confined.superuser(&confined.confine("{acme}")).await.unwrap_err().to_string();
    assert!(refused.contains("may emit for every tenant still"), "{refused}");
    confined.superuser(&member.replace("grant", "revoke").replace(" to ", " from ")).await.unwrap();
    let direct = format!("select posthaste.grant_producer('{}')", confined.role);
    confined.superuser(&direct).await.unwrap();
    confined.superuser(&confined.confine("{acme}")).await.expect("what it had itself is taken away");
    let mut producer = confined.connect().await;
    let refused = sqlx::query("select posthaste.emit('acme', 'a.b', '{}')").execute(&mut producer).await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "42501");
    producer.close().await.unwrap();
    confined.remove().await;
}
