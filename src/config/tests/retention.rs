use super::*;
use crate::domain::retention::Unfinished;

const DAY: Duration = Duration::from_secs(86_400);

fn held_ttl(variables: &[(&str, &str)]) -> Duration {
    loaded(variables).delivery.held_ttl
}

#[test]
fn what_is_held_ends_with_the_history_unless_it_has_a_time_of_its_own_or_keeps_its_day() {
    let (days, ttl) = ("POSTHASTE_RETENTION__DAYS", "POSTHASTE_DELIVERY__HELD_TTL");
    let keep = ("POSTHASTE_RETENTION__UNFINISHED", "keep");
    assert_eq!((held_ttl(&[]), loaded(&[]).retention.unfinished), (30 * DAY, Unfinished::Expire));
    assert_eq!(held_ttl(&[(days, "7")]), 7 * DAY);
    assert_eq!(held_ttl(&[keep]), Duration::ZERO);
    assert_eq!(held_ttl(&[keep, (ttl, "2h")]), Duration::from_secs(7200));
    assert_eq!(held_ttl(&[(ttl, "0s")]), Duration::ZERO);
    assert!(refused(&[(ttl, "soon")]).starts_with("delivery.held_ttl: "));
    assert!(refused(&[("POSTHASTE_RETENTION__UNFINISHED", "drop")]).contains("\"expire\" or \"keep\""));
}

#[test]
fn what_would_end_before_its_time_is_warned_of() {
    let schedule = ("POSTHASTE_RETRY__SCHEDULE", r#"["10d", "20d"]"#);
    let warnings = loaded(&[schedule]).warnings;
    assert!(warnings.len() == 1 && warnings[0].starts_with("retention.days: 30 is less than"), "{warnings:?}");
    assert_eq!(loaded(&[schedule, ("POSTHASTE_RETENTION__DAYS", "60")]).warnings, [""; 0]);
    assert_eq!(loaded(&[schedule, ("POSTHASTE_RETENTION__UNFINISHED", "keep")]).warnings, [""; 0]);
    let late = loaded(&[("POSTHASTE_DELIVERY__HELD_TTL", "40d")]).warnings;
    assert!(late.len() == 1 && late[0].starts_with("delivery.held_ttl: "), "{late:?}");
}
