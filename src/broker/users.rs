//! Users that may do no more than they need, as commands for whoever administers the broker.

use super::topology::Names;

/// What a user may configure, write and read, as regular expressions over the names of exchanges and queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub role: &'static str,
    pub configure: String,
    pub write: String,
    pub read: String,
}

const NOTHING: &str = "^$";
const TEMPLATE: &str = include_str!("users/template.sh");

/// To publish takes the right to write to the exchange. Newer brokers tell a queue's length only to those who have some right to
/// the queue: writing to one is harmless, since nobody publishes to a queue. To consume takes the right to read.
pub fn users(names: &Names) -> [User; 4] {
    // A prefix has letters, digits, '.', '_' and '-'; of these only the dot means something in an expression.
    let prefix = names.prefix().replace('.', "\\.");
    let all = format!("^{prefix}($|\\.)");
    let user = |role, configure: &str, write: String, read: String| User {
        role,
        configure: configure.to_owned(),
        write,
        read,
    };
    [
        user("relay", NOTHING, format!("^{prefix}(\\.dead|\\.deliver|\\.retry)?$"), format!("^{prefix}\\.dead$")),
        user("worker", NOTHING, format!("^{prefix}(\\.delay|\\.dead)?$"), format!("^{prefix}\\.(deliver|retry)$")),
        user("operator", NOTHING, format!("^{prefix}(\\.dead)?$"), format!("^{prefix}\\.dead$")),
        // Declaring a queue takes rights to what it is bound to and what it dead-letters into, too.
        user("migrator", &all, all.clone(), all.clone()),
    ]
}

/// For a POSIX shell on a node of the broker. A new user gets no password: nobody can log in as it.
pub fn script(prefix: &str, vhost: &str, names: &Names) -> String {
    let line = |user: &User| {
        let patterns = [&user.configure, &user.write, &user.read].map(|pattern| quoted(pattern)).join(" ");
        format!("user {prefix}_{} {patterns}", user.role)
    };
    let lines: Vec<String> = users(names).iter().map(line).collect();
    TEMPLATE.replace("{prefix}", prefix).replace("{users}", &lines.join("\n")).replace("{vhost}", &quoted(vhost))
}

/// For the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_permissions_follow_the_prefix_and_nothing_but_a_dot_in_it_is_special() {
        let [relay, worker, operator, migrator] = users(&Names::new("shop.eu-1"));
        assert_eq!((relay.configure.as_str(), relay.read.as_str()), ("^$", r"^shop\.eu-1\.dead$"));
        assert_eq!(relay.write, r"^shop\.eu-1(\.dead|\.deliver|\.retry)?$");
        assert_eq!(worker.read, r"^shop\.eu-1\.(deliver|retry)$");
        assert_eq!(operator.write, r"^shop\.eu-1(\.dead)?$");
        assert_eq!(migrator.configure, r"^shop\.eu-1($|\.)");
    }

    #[test]
    fn what_is_printed_is_safe_to_paste_and_has_no_password() {
        let text = script("shop", "it's", &Names::new("posthaste"));
        assert!(text.contains(r"set_permissions -p 'it'\''s'"), "{text}");
        let worker = r"user shop_worker '^$' '^posthaste(\.delay|\.dead)?$' '^posthaste\.(deliver|retry)$'";
        assert!(text.lines().any(|line| line == worker), "{text}");
    }
}
