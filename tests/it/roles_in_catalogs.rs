//! What the catalogs of PostgreSQL say of the roles: the list, and nothing else.

use std::collections::BTreeSet;

use posthaste::store::roles::{self, Role};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::harness::{Roles, Stack};

/// Role, privilege, kind, name, column; columns are empty where the whole is meant.
type Right = (String, String, String, String);

/// As the list has them, each column by itself.
fn listed(by_reference: bool) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for grant in roles::grants(by_reference) {
        let name = grant.name.split('(').next().unwrap();
        for (privilege, columns) in parts(grant.privileges) {
            for column in columns {
                rights.insert((grant.role.as_str().to_owned(), privilege.clone(), name.to_owned(), column));
            }
        }
    }
    rights
}

/// `select, update (a, b)` in its parts.
fn parts(privileges: &str) -> Vec<(String, Vec<String>)> {
    let mut parts = Vec::new();
    let mut rest = privileges;
    while !rest.is_empty() {
        let end = rest.find([',', '(']).unwrap_or(rest.len());
        let privilege = rest[..end].trim().to_uppercase();
        let mut columns = vec![String::new()];
        let mut after = &rest[end..];
        if let Some(list) = after.strip_prefix('(') {
            let (list, behind) = list.split_once(')').unwrap();
            columns = list.split(',').map(|column| column.trim().to_owned()).collect();
            after = behind;
        }
        parts.push((privilege, columns));
        rest = after.trim_start().trim_start_matches(',').trim_start();
    }
    parts
}

/// As the catalogs have them, of everything in the schema but the days.
const GRANTED: &str = "
with acls as (
  select c.relname as name, '' as part, c.relacl as acl, c.relowner as owner from pg_class c
   where c.relnamespace = 'posthaste'::regnamespace and not c.relispartition
  union all
  select c.relname, t.attname, t.attacl, c.relowner from pg_class c join pg_attribute t on t.attrelid = c.oid
   where c.relnamespace = 'posthaste'::regnamespace and not c.relispartition
  union all
  select p.proname, '', coalesce(p.proacl, acldefault('f', p.proowner)), p.proowner from pg_proc p
   where p.pronamespace = 'posthaste'::regnamespace
)
select case a.grantee when 0 then 'public' else pg_get_userbyid(a.grantee)::text end, a.privilege_type, name::text, part::text
  from acls cross join lateral aclexplode(acl) a where a.grantee <> owner";

async fn granted(stack: &Stack, roles: &Roles) -> BTreeSet<Right> {
    let all: Vec<Right> = sqlx::query_as(GRANTED).fetch_all(&stack.db).await.unwrap();
    let prefix = format!("{}_", roles.prefix);
    // The role that a migration makes for the whole server is not of this test.
    let ours = all.into_iter().filter(|right| right.0 != "posthaste_producer");
    ours.map(|(role, privilege, name, part)| {
        (role.strip_prefix(&prefix).unwrap_or(&role).to_owned(), privilege, name, part)
    })
    .collect()
}

#[tokio::test]
async fn exactly_what_is_listed_is_granted_also_when_it_is_applied_again() {
    let stack = Stack::new().await;
    let roles = Roles::of(&stack).await;
    assert_eq!(granted(&stack, &roles).await, listed(false));
    let stray = format!("grant select on posthaste.endpoint_secrets to {}", roles.name("relay"));
    sqlx::raw_sql(AssertSqlSafe(stray)).execute(&stack.db).await.unwrap();
    assert_ne!(granted(&stack, &roles).await, listed(false));

    roles.apply(&stack, &[("broker.payload", "reference")]).await;

    assert_eq!(granted(&stack, &roles).await, listed(true));
    roles.apply(&stack, &[]).await;
    assert_eq!(granted(&stack, &roles).await, listed(false));
}

#[tokio::test]
async fn every_table_is_in_the_list() {
    let stack = Stack::new().await;
    let there = "select relname::text from pg_class where relnamespace = 'posthaste'::regnamespace
                    and relkind in ('r', 'p', 'v') and not relispartition";
    let there: Vec<String> = sqlx::query_scalar(there).fetch_all(&stack.db).await.unwrap();
    let listed: BTreeSet<String> = roles::tables().map(str::to_owned).collect();
    assert_eq!(listed, there.into_iter().collect(), "whose is it? src/store/roles/list.rs");
}

/// Grantee, privilege and column of a table, without its owner's.
const OF_TABLE: &str = "
select a.grantee::text, a.privilege_type, p.part::text from (
  select relowner, '' as part, relacl as acl from pg_class where oid = $1::regclass
  union all
  select c.relowner, t.attname, t.attacl from pg_class c join pg_attribute t on t.attrelid = c.oid where c.oid = $1::regclass) p
 cross join lateral aclexplode(p.acl) a where a.grantee <> p.relowner";

#[tokio::test]
async fn a_day_has_the_privileges_of_its_parents_whether_it_was_there_or_is_made_later() {
    let stack = Stack::new().await;
    let roles = Roles::of(&stack).await;
    let made = "select posthaste.create_partitions(current_date + 20, current_date + 20)";
    let mut relay = roles.connect("relay").await;
    let made: i32 = sqlx::query_scalar(made).fetch_one(&mut relay).await.unwrap();
    assert_eq!(made, 3);
    let days = "select i.inhparent::regclass::text, i.inhrelid::regclass::text from pg_inherits i
                 where i.inhparent in ('posthaste.events'::regclass, 'posthaste.deliveries'::regclass, 'posthaste.attempts'::regclass)";
    let days: Vec<(String, String)> = sqlx::query_as(days).fetch_all(&stack.db).await.unwrap();
    assert!(days.len() >= 3 * 10, "{}", days.len());
    for (parent, day) in days {
        let of = async |table: &str| -> BTreeSet<(String, String, String)> {
            sqlx::query_as(OF_TABLE).bind(table.to_owned()).fetch_all(&stack.db).await.unwrap().into_iter().collect()
        };
        let expected = of(&parent).await;
        assert!(!expected.is_empty());
        assert_eq!(of(&day).await, expected, "{day}");
    }
}

#[tokio::test]
async fn the_migrator_alone_makes_the_schema_and_grants_what_is_in_it() {
    let stack = Stack::new().await;
    stack.execute("drop schema posthaste cascade").await;
    let roles = Roles::of(&stack).await;
    let as_migrator = [("database.url", &*roles.url("migrator"))];

    for _ in 0..2 {
        stack.cli_with(&["migrate"], &as_migrator).await.ok();
    }

    let owners = "select count(*) from pg_class c where c.relnamespace = 'posthaste'::regnamespace
                    and c.relowner <> (select nspowner from pg_namespace where nspname = 'posthaste')";
    assert_eq!(stack.number(owners).await, 0);
    let sql = stack.cli(&["roles", "sql", "--prefix", &roles.prefix]).await.ok().stdout;
    let mut migrator: PgConnection = roles.connect("migrator").await;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut migrator).await.expect("the owner may grant");
    migrator.close().await.unwrap();
    assert_eq!(granted(&stack, &roles).await, listed(false));
    let superuser: bool = sqlx::query_scalar("select rolsuper or rolcreaterole from pg_roles where rolname = $1")
        .bind(roles.name("migrator"))
        .fetch_one(&stack.db)
        .await
        .unwrap();
    assert!(!superuser);
}

#[test]
fn the_list_names_columns_and_roles_once() {
    assert_eq!(
        parts("select, update (a, b)"),
        [("SELECT".to_owned(), vec![String::new()]), ("UPDATE".to_owned(), vec!["a".to_owned(), "b".to_owned()])]
    );
    let grants = roles::grants(false);
    let columns = grants.iter().flat_map(|grant| parts(grant.privileges)).map(|(_, columns)| columns.len());
    assert_eq!(listed(false).len(), columns.sum::<usize>(), "nothing is listed twice");
    let has_rights = |role: &Role| grants.iter().any(|grant| grant.role == *role);
    assert!(Role::ALL.iter().all(|role| *role == Role::Migrator || has_rights(role)));
}
