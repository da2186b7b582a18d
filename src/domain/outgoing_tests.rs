use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn filled(messages: &[(&str, usize)]) -> Outgoing<String> {
    let mut outgoing = Outgoing::default();
    for (tenant, count) in messages {
        for n in 0..*count {
            outgoing.push(tenant, format!("{tenant}{n}"), 10);
        }
    }
    outgoing
}

fn popped(outgoing: &mut Outgoing<String>, count: usize) -> Vec<String> {
    std::iter::from_fn(|| outgoing.pop()).take(count).collect()
}

#[test]
fn a_few_of_each_tenant_go_in_turn_and_one_alone_goes_on() {
    let mut outgoing = filled(&[("a", 10), ("b", 1), ("c", 5)]);
    let order = ["a0", "a1", "a2", "a3", "b0", "c0", "c1", "c2", "c3", "a4", "a5", "a6", "a7", "c4", "a8", "a9"];
    assert_eq!(popped(&mut outgoing, 100), order);
    assert!(outgoing.is_empty());
}

#[test]
fn a_tenant_with_many_messages_is_crowded_and_does_not_stop_the_claims_of_others() {
    let mut outgoing = filled(&[("a", CROWD)]);
    assert!(outgoing.crowded().is_empty() && !outgoing.wants_more(), "enough waits");
    outgoing.push("a", "one more".into(), 0);
    assert!(outgoing.crowded() == ["a"] && outgoing.wants_more());
    outgoing.pop();
    assert!(outgoing.crowded().is_empty() && !outgoing.wants_more());
    outgoing.pop();
    assert!(outgoing.wants_more());
}

#[test]
fn nothing_is_claimed_while_too_many_messages_or_bytes_wait() {
    assert!(!filled(&[("a", MESSAGES)]).wants_more());
    let mut large = Outgoing::default();
    large.push("a", (), BYTES);
    assert!(!large.wants_more());
    large.pop();
    assert!(large.wants_more());
}

proptest! {
    /// Nothing is lost or doubled, a tenant's messages keep their order, and the counts stay right.
    #[test]
    fn whatever_is_pushed_is_popped_once_and_in_order(steps in prop::collection::vec(prop::option::weighted(0.6, 0usize..5), 0..800)) {
        let mut outgoing = Outgoing::default();
        let mut waiting: HashMap<usize, std::collections::VecDeque<usize>> = HashMap::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Some(tenant) => {
                    outgoing.push(&tenant.to_string(), (tenant, n), n);
                    waiting.entry(tenant).or_default().push_back(n);
                }
                None => {
                    let next = outgoing.peek().copied();
                    prop_assert_eq!(outgoing.pop(), next);
                    if let Some((tenant, n)) = next {
                        prop_assert_eq!(waiting.get_mut(&tenant).and_then(std::collections::VecDeque::pop_front), Some(n));
                    }
                }
            }
            let lengths: Vec<usize> = waiting.values().map(std::collections::VecDeque::len).collect();
            prop_assert_eq!(outgoing.messages(), lengths.iter().sum::<usize>());
            let crowds: Vec<usize> = lengths.into_iter().filter(|length| *length > CROWD).collect();
            prop_assert_eq!((outgoing.crowded().len(), outgoing.crowded), (crowds.len(), crowds.iter().sum()));
        }
    }

    /// However much the others have, a message goes after at most one turn of each for every turn before it.
    #[test]
    fn a_message_waits_for_its_own_turn_only(others in 1usize..20, before in 0usize..12) {
        let mut outgoing = Outgoing::default();
        for other in 0..others {
            for _ in 0..100 {
                outgoing.push(&format!("other{other}"), false, 0);
            }
        }
        for n in 0..=before {
            outgoing.push("mine", n == before, 0);
        }
        let turns = before / TURN as usize + 1;
        let place = std::iter::from_fn(|| outgoing.pop()).position(|mine| mine).unwrap();
        prop_assert!(place <= turns * others * TURN as usize + before, "{}", place);
    }
}
