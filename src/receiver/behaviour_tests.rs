use super::*;

#[test]
fn every_choice_is_read_and_written_the_same() {
    for (text, behaviour) in [
        ("ok", Behaviour::Ok),
        ("fail-first:3", Behaviour::FailFirst(3)),
        ("fail-share:0.3", Behaviour::FailShare(0.3)),
        ("status:410", Behaviour::Status(410)),
        ("slow:1s500ms", Behaviour::Slow(Duration::from_millis(1500))),
        ("hang", Behaviour::Hang),
        ("drip:20ms", Behaviour::Drip(Duration::from_millis(20))),
        ("reset", Behaviour::Reset),
        ("redirect:http://example.com:1/x", Behaviour::Redirect("http://example.com:1/x".into())),
        ("retry-after:7:503", Behaviour::RetryAfter { seconds: 7, status: 503 }),
    ] {
        assert_eq!(text.parse(), Ok(behaviour.clone()));
        assert_eq!(behaviour.to_string(), text);
    }
    assert_eq!(" retry-after:7\n".parse(), Ok(Behaviour::RetryAfter { seconds: 7, status: 429 }));
}

#[test]
fn a_refused_text_is_told_with_its_problem_and_the_choices() {
    for (text, problem) in [
        ("", "'' is not known"),
        ("dance:2", "'dance:2' is not known"),
        ("ok:1", "'ok' takes no value"),
        ("slow", "'slow' needs a value after a colon"),
        ("slow:soon", "'soon' after 'slow:' is not a duration such as 250ms or 2s"),
        ("fail-first:-1", "'-1' after 'fail-first:' is not a whole number"),
        ("fail-share:many", "'many' after 'fail-share:' is not a number from 0 to 1"),
        ("fail-share:1.5", "'1.5' after 'fail-share:' is not a number from 0 to 1"),
        ("fail-share:NaN", "'NaN' after 'fail-share:' is not a number from 0 to 1"),
        ("status:teapot", "'teapot' after 'status:' is not a status code"),
        ("status:100", "the status code 100 is not within 200 to 599"),
        ("redirect:", "the URL after 'redirect:' cannot be sent"),
        ("retry-after:soon", "'soon' after 'retry-after:' is not a whole number of seconds"),
        ("retry-after:1:999", "the status code 999 is not within 200 to 599"),
    ] {
        let message = text.parse::<Behaviour>().unwrap_err().to_string();
        assert_eq!(message, format!("behaviour: {problem}; use one of {CHOICES}"));
    }
}

#[test]
fn the_failing_share_is_steady_and_about_as_large_as_asked_for() {
    for share in [0.0, 0.1, 0.5, 1.0] {
        let failing = (0..10_000).filter(|n| in_share(share, &format!("evt_{n}"), 1)).count();
        assert!((failing as f64 - share * 10_000.0).abs() < 300.0, "{share}: {failing}");
        let same_id = (0..10_000).filter(|n| in_share(share, "evt", *n)).count();
        assert!((same_id as f64 - share * 10_000.0).abs() < 300.0, "{share}: {same_id}");
    }
    assert_eq!(in_share(0.5, "evt", 1), in_share(0.5, "evt", 1));
}
