//! The roles of `posthaste roles sql`, under names of one test's own, with a way to log in.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use url::Url;

use super::stack::Stack;

const NAMES: [&str; 6] = ["producer", "relay", "worker", "operator", "observer", "migrator"];
const PASSWORD: &str = "not-a-secret";

/// Gone with it. What it owns becomes the superuser's again.
pub struct Roles {
    pub prefix: String,
    superuser: String,
}

impl Roles {
    /// As the documentation says: the script, applied by a superuser, and then passwords.
    pub async fn of(stack: &Stack) -> Roles {
        Roles::with(stack, &[]).await
    }

    pub async fn with(stack: &Stack, settings: &[(&str, &str)]) -> Roles {
        // Begins like the names of databases, so that what a killed run leaves behind is found.
        let prefix = stack.prefix.replacen("ph", "posthaste_it", 1);
        let roles = Roles { prefix, superuser: stack.binary.database_url.clone() };
        roles.apply(stack, settings).await;
        let mut connection = PgConnection::connect(&roles.superuser).await.expect("a superuser's connection");
        for name in NAMES {
            let login = format!("alter role {} login password '{PASSWORD}'", roles.name(name));
            sqlx::raw_sql(AssertSqlSafe(login)).execute(&mut connection).await.expect("a role that can log in");
        }
        connection.close().await.expect("the connection can be closed");
        roles
    }

    /// The script once more.
    pub async fn apply(&self, stack: &Stack, settings: &[(&str, &str)]) {
        let sql = stack.cli_with(&["roles", "sql", "--prefix", &self.prefix], settings).await.ok().stdout;
        let mut connection = PgConnection::connect(&self.superuser).await.expect("a superuser's connection");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("the roles and their grants");
        connection.close().await.expect("the connection can be closed");
    }

    pub fn name(&self, role: &str) -> String {
        format!("{}_{role}", self.prefix)
    }

    /// Of the test's database, for one of the roles.
    pub fn url(&self, role: &str) -> String {
        let mut url = Url::parse(&self.superuser).expect("the URL of the test database");
        url.set_username(&self.name(role)).expect("a URL with a user");
        url.set_password(Some(PASSWORD)).expect("a URL with a password");
        url.into()
    }

    pub async fn connect(&self, role: &str) -> PgConnection {
        PgConnection::connect(&self.url(role)).await.expect("the role can log in")
    }

    async fn remove(superuser: &str, prefix: &str) -> sqlx::Result<()> {
        let mut connection = PgConnection::connect(superuser).await?;
        for name in NAMES {
            let remove = format!(
                "reassign owned by {prefix}_{name} to current_user; drop owned by {prefix}_{name}; drop role {prefix}_{name}"
            );
            sqlx::raw_sql(AssertSqlSafe(remove)).execute(&mut connection).await?;
        }
        connection.close().await
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        let removed = std::thread::scope(|scope| {
            let removing = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                let remove = Roles::remove(&self.superuser, &self.prefix);
                runtime.block_on(async { tokio::time::timeout(super::PATIENCE, remove).await })
            });
            removing.join()
        });
        let is_gone = matches!(removed, Ok(Ok(Ok(()))));
        // A second panic would end the process and hide the first one.
        assert!(is_gone || std::thread::panicking(), "the roles of {} are still there: {removed:?}", self.prefix);
    }
}
