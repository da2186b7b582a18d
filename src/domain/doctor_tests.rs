use super::broker::{Handles, Probe};
use super::database::Oldest;
use super::host::Names;
use super::*;

#[track_caller]
fn is(check: &Check, level: Level, part: &str) {
    assert!(check.level == level && check.says.contains(part), "{check:?}");
    assert_eq!(check.fix.is_none(), level == Level::Ok, "whatever is not well has a fix: {check:?}");
}

#[test]
fn versions_that_were_tested_are_well_and_too_old_ones_fail() {
    is(&database::version(150_008, false), Level::Ok, "PostgreSQL 15");
    is(&database::version(160_002, false), Level::Warn, "not run");
    is(&database::version(130_014, false), Level::Fail, "too old");
    is(&database::version(170_001, true), Level::Fail, "standby");
    is(&broker::version(Some("3.10.8")), Level::Ok, "3.10.8");
    is(&broker::version(Some("4.1.0-rc.1")), Level::Warn, "not run");
    is(&broker::version(Some("3.8.9")), Level::Fail, "too old");
    is(&broker::version(Some("new")), Level::Unknown, "new");
    is(&broker::version(None), Level::Unknown, "greeting");
}

#[test]
fn a_clock_is_judged_only_as_far_as_the_reading_is_sure() {
    is(&database::clock(-40.0, 2.0), Level::Ok, "40 ms apart");
    is(&database::clock(1_500.0, 800.0), Level::Ok, "to within 800 ms");
    is(&database::clock(1_500.0, 20.0), Level::Warn, "1500 ms");
    is(&database::clock(-70_000.0, 20.0), Level::Fail, "70000 ms");
}

#[test]
fn partitions_that_run_out_are_seen_days_before() {
    is(&database::partitions(7), Level::Ok, "7 days");
    is(&database::partitions(2), Level::Warn, "2 days");
    is(&database::partitions(-1), Level::Fail, "refused");
}

#[test]
fn what_pins_old_rows_is_named() {
    let oldest = |transaction_s, prepared_s| Oldest { transaction_s, prepared_s, slots: 0, hidden: 0 };
    is(&database::oldest_transaction(&oldest(-0.1, 0.0)), Level::Ok, "0 s old");
    is(&database::oldest_transaction(&oldest(400.0, 0.0)), Level::Warn, "400 s old");
    is(&database::oldest_transaction(&oldest(1.0, 9_000.0)), Level::Fail, "prepared one 9000 s");
    let seen = database::oldest_transaction(&Oldest { slots: 2, hidden: 3, ..oldest(1.0, 0.0) });
    is(&seen, Level::Ok, "2 replication slots hold rows back; 3 sessions of others cannot be seen");
}

#[test]
fn a_role_lacks_rights_or_is_not_used() {
    let missing: Vec<String> = (1..=5).map(|n| format!("select on t{n}")).collect();
    is(&database::role("database.role.relay", "posthaste_relay", None), Level::Ok, "is used here");
    is(&database::role("database.role.relay", "posthaste_relay", Some(&[])), Level::Ok, "every right");
    let lacking = database::role("database.role.relay", "posthaste_relay", Some(&missing));
    is(&lacking, Level::Fail, "select on t1, select on t2, select on t3 and 2 more");
    is(&database::user("app", &[]), Level::Ok, "no role");
    is(&database::user("app", &["relay", "worker"]), Level::Ok, "relay, worker");
}

#[test]
fn a_key_must_open_all_that_is_stored() {
    let sealed = |list: &[(&str, i64)]| list.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect::<Vec<_>>();
    is(&database::encryption_key(&[], &[], None), Level::Unknown, "not set");
    is(&database::encryption_key(&["aa".to_owned()], &[], None), Level::Ok, "nothing");
    is(&database::encryption_key(&["aa".to_owned()], &sealed(&[("aa", 7)]), Some(true)), Level::Ok, "all 7");
    is(&database::encryption_key(&["aa".to_owned()], &sealed(&[("aa", 7)]), Some(false)), Level::Fail, "does not open");
    is(&database::encryption_key(&["aa".to_owned()], &sealed(&[("bb", 7)]), None), Level::Fail, "7 by key id bb");
    is(
        &database::encryption_key(&["aa".to_owned()], &sealed(&[("aa", 1), ("bb", 7)]), None),
        Level::Fail,
        "cannot be opened",
    );
}

#[test]
fn what_stands_still_is_warned_of() {
    is(&database::outbox(3, 0.4), Level::Ok, "3 events");
    is(&database::outbox(3, 61.0), Level::Warn, "61 s");
    is(&database::unconfirmed(0.0), Level::Ok, "0 s");
    is(&database::unconfirmed(600.0), Level::Warn, "600 s");
    is(&database::set_aside(0), Level::Ok, "nothing");
    is(&database::set_aside(2), Level::Warn, "2 events");
    is(&database::markers(&[]), Level::Warn, "no marker");
    is(&database::markers(&[("deliver".into(), 2.0), ("retry".into(), 3.0)]), Level::Ok, "retry 3 s ago");
    is(&database::markers(&[("deliver".into(), 2.0), ("retry".into(), 90.0)]), Level::Warn, "retry 90 s ago");
    is(&database::retention(35, 30), Level::Ok, "35 days");
    is(&database::retention(60, 30), Level::Warn, "60 days");
    is(&database::connection(3.0), Level::Ok, "3.0 ms");
    is(&database::connection(80.0), Level::Warn, "80.0 ms");
    is(&database::schema(0), Level::Ok, "up to date");
    is(&database::schema(2), Level::Fail, "2 migrations");
}

#[test]
fn the_broker_is_judged_by_what_it_does() {
    is(&broker::connection(20.0), Level::Ok, "20 ms");
    is(&broker::connection(900.0), Level::Warn, "900 ms");
    is(&broker::topology(67, &[], true), Level::Ok, "as configured");
    is(&broker::topology(67, &[], false), Level::Ok, "exist");
    is(&broker::topology(67, &["queue 'q' is missing".into()], true), Level::Fail, "1 differences");
    let counted = |total, used| Handles::Counted { total, used };
    is(&broker::file_handles(67, 201, &Handles::NotAsked), Level::Unknown, "67 queues");
    is(&broker::file_handles(67, 201, &Handles::NoAnswer("it answered 401".into())), Level::Unknown, "answered 401");
    is(&broker::file_handles(67, 201, &Handles::NotCounted), Level::Ok, "67 queues");
    is(&broker::file_handles(67, 201, &counted(1_024, 300)), Level::Ok, "1024");
    is(&broker::file_handles(416, 1_248, &counted(1_024, 300)), Level::Fail, "1248");
    is(&broker::file_handles(67, 201, &counted(1_024, 1_000)), Level::Fail, "has 1000 open");
    is(&broker::alarm(Probe::Confirmed), Level::Ok, "no alarm");
    is(&broker::alarm(Probe::Blocked), Level::Fail, "takes no messages");
    is(&broker::alarm(Probe::Silent), Level::Fail, "not confirmed");
    is(&broker::alarm(Probe::Refused), Level::Unknown, "may not publish");
}

#[test]
fn the_host_is_judged_by_its_limits_and_its_name_servers() {
    is(&host::open_files(1_700, None), Level::Ok, "no limit");
    is(&host::open_files(1_700, Some(2_048)), Level::Ok, "2048");
    is(&host::open_files(1_700, Some(1_024)), Level::Warn, "1024");
    let names = |resolved, refused: &[&str], unanswered: &[&str]| Names {
        resolved,
        refused: refused.iter().map(ToString::to_string).collect(),
        unanswered: unanswered.iter().map(ToString::to_string).collect(),
    };
    is(&host::dns(&names(0, &[], &[])), Level::Ok, "no host");
    is(&host::dns(&names(2, &[], &[])), Level::Ok, "2 of 2");
    is(&host::dns(&names(1, &["a.invalid"], &[])), Level::Warn, "not a.invalid");
    is(&host::dns(&names(1, &[], &["b.example"])), Level::Warn, "no answer for b.example");
    is(&host::dns(&names(0, &[], &["b.example"])), Level::Fail, "0 of 1");
}

#[test]
fn levels_are_in_order() {
    assert!(Level::Ok < Level::Unknown && Level::Unknown < Level::Warn && Level::Warn < Level::Fail);
    assert_eq!(
        [Level::Ok, Level::Unknown, Level::Warn, Level::Fail].map(Level::as_str),
        ["ok", "unknown", "warn", "fail"]
    );
}
