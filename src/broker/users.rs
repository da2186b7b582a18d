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
        user("relay", NOTHING, format!("^{prefix}(\\.dead|\\.deliver|\\.retry)?$"), NOTHING.to_owned()),
        user("worker", NOTHING, format!("^{prefix}(\\.delay|\\.dead)?$"), format!("^{prefix}\\.(deliver|retry)$")),
        user("operator", NOTHING, format!("^{prefix}(\\.dead)?$"), format!("^{prefix}\\.dead$")),
        // Declaring a queue takes rights to what it is bound to and what it dead-letters into, too.
        user("migrator", &all, all.clone(), all.clone()),
    ]
}

/// For a POSIX shell on a node of the broker. A new user gets no password: with an empty one nobody can log in.
pub fn script(prefix: &str, vhost: &str, names: &Names) -> String {
    let vhost = quoted(vhost);
    let mut lines = vec![
        "# Users of Posthaste with no more rights than they need. Printed by `posthaste roles rabbitmq`; see docs/roles.md.".to_owned(),
        "# Run it where rabbitmqctl works. Running it again changes nothing. A new user cannot log in until you say how:".to_owned(),
        format!("#   rabbitmqctl change_password {prefix}_relay"),
        "set -eu".to_owned(),
        "user() {".to_owned(),
        "    # Every user begins with some password; this one is forgotten at once.".to_owned(),
        "    rabbitmqctl -q list_users | cut -f 1 | grep -qxF -e \"$1\" || {".to_owned(),
        "        rabbitmqctl -q add_user \"$1\" \"$(od -An -N 24 -tx1 /dev/urandom | tr -d ' \\n')\"".to_owned(),
        "        rabbitmqctl -q clear_password \"$1\"".to_owned(),
        "    }".to_owned(),
        "    rabbitmqctl -q set_user_tags \"$1\"".to_owned(),
        format!("    rabbitmqctl -q set_permissions -p {vhost} \"$1\" \"$2\" \"$3\" \"$4\""),
        "}".to_owned(),
    ];
    for user in users(names) {
        let patterns = [&user.configure, &user.write, &user.read].map(|pattern| quoted(pattern)).join(" ");
        lines.push(format!("user {prefix}_{} {patterns}", user.role));
    }
    lines.join("\n")
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
        assert_eq!((relay.configure.as_str(), relay.read.as_str()), ("^$", "^$"));
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
