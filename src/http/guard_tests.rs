use proptest::prelude::*;

use super::*;

fn public(text: &str) -> bool {
    is_public(text.parse().unwrap())
}

#[test]
fn the_first_and_the_last_address_of_every_special_network_are_refused_and_their_neighbours_are_not() {
    for (first, last, before, after) in [
        ("0.0.0.0", "0.255.255.255", "", "1.0.0.0"),
        ("10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"),
        ("100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0"),
        ("127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0"),
        ("169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0"),
        ("172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"),
        ("192.0.0.0", "192.0.0.255", "191.255.255.255", "192.0.1.0"),
        ("192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0"),
        ("192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0"),
        ("192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0"),
        ("198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0"),
        ("198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0"),
        ("203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0"),
        ("224.0.0.0", "255.255.255.255", "223.255.255.255", ""),
    ] {
        assert!(!public(first) && !public(last), "{first} - {last}");
        assert!(before.is_empty() || public(before), "{before}");
        assert!(after.is_empty() || public(after), "{after}");
    }
}

#[test]
fn special_ipv6_addresses_are_refused_and_global_ones_are_not() {
    for text in [
        "::",
        "::1",
        "::7f00:1",
        "::808:808",
        "64:ff9b:1::808:808",
        "100::1",
        "100:0:0:1::1",
        "2001::1",
        "2001:2::1",
        "2001:10::1",
        "2001:1ff:ffff::1",
        "2001:db8::1",
        "2002:808:808::1",
        "3fff::1",
        "3fff:fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "64:ff9b::a00:1",
    ] {
        assert!(!public(text), "{text}");
    }
    for text in [
        "2606:4700:4700::1111",
        "2a00:1450:4001:800::200e",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2001:1::1",
        "2001:3::1",
        "2001:4:112::1",
        "2001:20::1",
        "2001:30::1",
        "3fff:1000::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ] {
        assert!(public(text), "{text}");
    }
}

#[test]
fn an_allowed_network_is_permitted_in_its_mapped_form_too_and_nothing_else_is() {
    let guard = Guard { allow: vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()] };
    for (text, permitted) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("fd12::1", true),
        ("8.8.8.8", true),
        ("10.2.0.1", false),
        ("::ffff:10.2.0.1", false),
        ("fe80::1", false),
    ] {
        assert_eq!(guard.permits(text.parse().unwrap()), permitted, "{text}");
    }
}

#[test]
fn one_private_address_among_public_ones_refuses_the_host() {
    let (public, private) = ("8.8.8.8".parse().unwrap(), "10.0.0.1".parse().unwrap());
    assert_eq!(Guard::default().check(&[public, public]), Ok(()));
    assert_eq!(Guard::default().check(&[public, private]), Err(Blocked(private)));
}

proptest! {
    #[test]
    fn an_address_that_embeds_an_ipv4_one_is_never_more_public_than_it(bits: u32, low: u64) {
        let v4 = Ipv4Addr::from_bits(bits);
        let expected = is_public(v4.into());
        prop_assert_eq!(is_public(v4.to_ipv6_mapped().into()), expected);
        let nat64 = Ipv6Addr::from_bits((0x64_ff9b_u128 << 96) | u128::from(bits));
        prop_assert_eq!(is_public(nat64.into()), expected);
        let six_to_four = Ipv6Addr::from_bits((0x2002_u128 << 112) | (u128::from(bits) << 80) | u128::from(low));
        let teredo = Ipv6Addr::from_bits((0x2001_0000_u128 << 96) | (u128::from(low) << 32) | u128::from(bits));
        let compatible = Ipv6Addr::from_bits(u128::from(bits));
        for refused in [six_to_four, teredo, compatible] {
            prop_assert!(!is_public(refused.into()), "{}", refused);
        }
    }

    #[test]
    fn the_rule_for_ipv4_covers_what_the_standard_library_knows_to_be_special(bits: u32) {
        let ip = Ipv4Addr::from_bits(bits);
        let special = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_broadcast()
            || ip.is_documentation() || ip.is_unspecified() || ip.is_multicast();
        prop_assert!(!special || !is_public(ip.into()));
    }
}
