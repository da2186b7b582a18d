//! One URL that lists several servers of PostgreSQL, as libpq takes it: `postgres://user@db1:5432,db2:5432/name`.

/// Which server a session may be opened at. Only what both libpq and we can mean by it.
const WANTED: &str = "target_session_attrs";
const WRITABLE: [&str; 2] = ["read-write", "primary"];

/// The servers of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// A URL for each, in their order.
    pub each: Vec<String>,
    /// Only one that takes writes will do: there are several, or the URL asks for it.
    pub must_write: bool,
}

/// Of a URL, which may still turn out to be none. An error says what is wrong with the list, and repeats nothing but names.
pub fn listed(url: &str) -> Result<Listed, String> {
    let Parts { before, hosts, after } = parts(url);
    let (after, wanted) = without_wanted(after);
    if let Some(wanted) = wanted.iter().find(|wanted| !WRITABLE.contains(wanted)) {
        let wanted: String = wanted.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        return Err(format!("has {WANTED}={wanted}, and every process writes; use read-write, or leave it out"));
    }
    let each: Vec<String> = hosts.split(',').map(|host| format!("{before}{host}{after}")).collect();
    if each.len() > 1 && hosts.split(',').any(|host| host.is_empty() || host.starts_with(':')) {
        return Err("lists a host without a name".to_owned());
    }
    let must_write = each.len() > 1 || !wanted.is_empty();
    Ok(Listed { each, must_write })
}

/// The hosts and ports of a URL, as they are written there.
pub fn hosts(url: &str) -> &str {
    parts(url).hosts
}

/// The same URL with other hosts.
pub fn with_hosts(url: &str, hosts: &str) -> String {
    let Parts { before, after, .. } = parts(url);
    format!("{before}{hosts}{after}")
}

struct Parts<'a> {
    /// With the `@`.
    before: &'a str,
    hosts: &'a str,
    /// From the path on.
    after: &'a str,
}

fn parts(url: &str) -> Parts<'_> {
    let begin = url.find("://").map_or(url.len(), |at| at + 3);
    let end = url[begin..].find(['/', '?', '#']).map_or(url.len(), |at| begin + at);
    let begin = url[begin..end].rfind('@').map_or(begin, |at| begin + at + 1);
    Parts { before: &url[..begin], hosts: &url[begin..end], after: &url[end..] }
}

/// The rest of a URL without what the driver does not know, and that.
fn without_wanted(after: &str) -> (String, Vec<&str>) {
    let Some((path, query)) = after.split_once('?') else { return (after.to_owned(), Vec::new()) };
    let value = |part: &&str| part.split_once('=').is_some_and(|(key, _)| key == WANTED);
    let (wanted, others): (Vec<&str>, Vec<&str>) = query.split('&').partition(value);
    let query = if others.is_empty() { String::new() } else { format!("?{}", others.join("&")) };
    let wanted = wanted.iter().filter_map(|part| Some(part.split_once('=')?.1)).collect();
    (format!("{path}{query}"), wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_of_a_list_gets_a_url_of_its_own() {
        let cases: [(&str, &[&str], bool); 6] = [
            ("postgres://u:p@db/x", &["postgres://u:p@db/x"], false),
            ("postgres://u:p@db1,db2:5433/x", &["postgres://u:p@db1/x", "postgres://u:p@db2:5433/x"], true),
            ("postgres://[::1]:5432,[::2]:5432/x", &["postgres://[::1]:5432/x", "postgres://[::2]:5432/x"], true),
            // A comma in the password separates nothing, and neither does one in the query.
            ("postgres://u:a,b@db/x?options=a,b", &["postgres://u:a,b@db/x?options=a,b"], false),
            ("postgres://db/x?target_session_attrs=primary", &["postgres://db/x"], true),
            (
                "postgres://a,b?sslmode=require&target_session_attrs=read-write&x=1",
                &["postgres://a?sslmode=require&x=1", "postgres://b?sslmode=require&x=1"],
                true,
            ),
        ];
        for (url, each, must_write) in cases {
            let each = each.iter().map(|url| (*url).to_owned()).collect();
            assert_eq!(listed(url), Ok(Listed { each, must_write }), "{url}");
        }
    }

    #[test]
    fn a_list_that_cannot_be_meant_is_refused_without_repeating_it() {
        for (url, expected) in [
            ("postgres://u:hunter2@a,b/x?target_session_attrs=any", "has target_session_attrs=any"),
            ("postgres://u:hunter2@a/x?target_session_attrs=standby", "use read-write, or leave it out"),
            ("postgres://u:hunter2@a,/x", "lists a host without a name"),
            ("postgres://u:hunter2@a,:5432/x", "lists a host without a name"),
        ] {
            let problem = listed(url).unwrap_err();
            assert!(problem.contains(expected) && !problem.contains("hunter2"), "{problem}");
        }
    }

    #[test]
    fn the_hosts_of_a_url_can_be_replaced() {
        assert_eq!(with_hosts("postgres://u:***@a/x", hosts("postgres://u:p@a:1,b:2/x")), "postgres://u:***@a:1,b:2/x");
    }
}
