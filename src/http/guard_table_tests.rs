//! One table of what is refused and what is allowed: every range of the IANA special-purpose registries by its name, and
//! every way to write an address or a host that anybody has used to get past a guard.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use crate::http::guard::Guard;
use crate::http::resolver::{ResolveError, Resolver};
use crate::http::target::check_url;
use crate::http::test_names;

/// Name in the registry, first and last address, and the addresses next to it where these are public.
type Range = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// Of <https://www.iana.org/assignments/iana-ipv4-special-registry>; the last one is RFC 5771's.
static REFUSED_IPV4: [Range; 23] = [
    ("\"This network\"", "0.0.0.0", "0.255.255.255", &["1.0.0.0"]),
    ("\"This host on this network\"", "0.0.0.0", "0.0.0.0", &[]),
    ("Private-Use, 10/8", "10.0.0.0", "10.255.255.255", &["9.255.255.255", "11.0.0.0"]),
    ("Shared Address Space", "100.64.0.0", "100.127.255.255", &["100.63.255.255", "100.128.0.0"]),
    ("Loopback", "127.0.0.0", "127.255.255.255", &["126.255.255.255", "128.0.0.0"]),
    ("Link Local", "169.254.0.0", "169.254.255.255", &["169.253.255.255", "169.255.0.0"]),
    ("Private-Use, 172.16/12", "172.16.0.0", "172.31.255.255", &["172.15.255.255", "172.32.0.0"]),
    ("IETF Protocol Assignments", "192.0.0.0", "192.0.0.255", &["191.255.255.255", "192.0.1.0"]),
    ("IPv4 Service Continuity Prefix", "192.0.0.0", "192.0.0.7", &[]),
    ("IPv4 dummy address", "192.0.0.8", "192.0.0.8", &[]),
    ("Port Control Protocol Anycast", "192.0.0.9", "192.0.0.9", &[]),
    ("Traversal Using Relays around NAT Anycast", "192.0.0.10", "192.0.0.10", &[]),
    ("NAT64/DNS64 Discovery", "192.0.0.170", "192.0.0.171", &[]),
    ("Documentation (TEST-NET-1)", "192.0.2.0", "192.0.2.255", &["192.0.1.255", "192.0.3.0"]),
    ("Deprecated (6to4 Relay Anycast)", "192.88.99.0", "192.88.99.255", &["192.88.98.255", "192.88.100.0"]),
    ("6a44-relay anycast address", "192.88.99.2", "192.88.99.2", &[]),
    ("Private-Use, 192.168/16", "192.168.0.0", "192.168.255.255", &["192.167.255.255", "192.169.0.0"]),
    ("Benchmarking", "198.18.0.0", "198.19.255.255", &["198.17.255.255", "198.20.0.0"]),
    ("Documentation (TEST-NET-2)", "198.51.100.0", "198.51.100.255", &["198.51.99.255", "198.51.101.0"]),
    ("Documentation (TEST-NET-3)", "203.0.113.0", "203.0.113.255", &["203.0.112.255", "203.0.114.0"]),
    ("Reserved", "240.0.0.0", "255.255.255.255", &[]),
    ("Limited Broadcast", "255.255.255.255", "255.255.255.255", &[]),
    ("Multicast", "224.0.0.0", "239.255.255.255", &["223.255.255.255"]),
];

/// Of <https://www.iana.org/assignments/iana-ipv6-special-registry>; the last four are reserved by other documents.
static REFUSED_IPV6: [Range; 19] = [
    ("Loopback Address", "::1", "::1", &[]),
    ("Unspecified Address", "::", "::", &[]),
    ("IPv4-IPv6 Translat., local use", "64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", &[]),
    ("Discard-Only Address Block", "100::", "100::ffff:ffff:ffff:ffff", &[]),
    ("Dummy IPv6 Prefix", "100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff", &[]),
    ("IETF Protocol Assignments", "2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", &["2000:ffff::1", "2001:200::"]),
    ("TEREDO", "2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", &[]),
    ("Benchmarking", "2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", &[]),
    ("Deprecated (previously ORCHID)", "2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", &["2001:20::"]),
    (
        "Documentation, 2001:db8::/32",
        "2001:db8::",
        "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        &["2001:db7::1", "2001:db9::"],
    ),
    ("6to4", "2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &["2001:ffff::1", "2003::"]),
    ("Documentation, 3fff::/20", "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", &["3ffe:ffff::1", "3fff:1000::"]),
    ("Segment Routing (SRv6) SIDs", "5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &[]),
    ("Unique-Local", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &[]),
    ("Link-Local Unicast", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &[]),
    ("Site-Local, deprecated (RFC 3879)", "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &[]),
    ("Multicast (RFC 4291)", "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &[]),
    ("IPv4-compatible, deprecated (RFC 4291)", "::2", "::ffff:ffff", &[]),
    ("outside of global unicast", "4000::", "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &["3fff:ffff::1"]),
];

/// What the registries call globally reachable.
static REACHABLE: [Range; 11] = [
    ("AS112-v4", "192.31.196.0", "192.31.196.255", &[]),
    ("AMT", "192.52.193.0", "192.52.193.255", &[]),
    ("Direct Delegation AS112 Service", "192.175.48.0", "192.175.48.255", &[]),
    ("IPv4-IPv6 Translat.", "64:ff9b::100:0", "64:ff9b::dfff:ffff", &[]),
    ("PCP and TURN Anycast", "2001:1::1", "2001:1::2", &[]),
    ("DNS-SD Service Registration Protocol Anycast", "2001:1::3", "2001:1::3", &[]),
    ("AMT", "2001:3::", "2001:3:ffff:ffff:ffff:ffff:ffff:ffff", &[]),
    ("AS112-v6", "2001:4:112::", "2001:4:112:ffff:ffff:ffff:ffff:ffff", &[]),
    ("ORCHIDv2", "2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", &[]),
    ("Drone Remote ID Protocol Entity Tags (DETs) Prefix", "2001:30::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff", &[]),
    ("Direct Delegation AS112 Service", "2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff", &[]),
];

const PRIVATE: [Ipv4Addr; 8] = [
    Ipv4Addr::new(127, 0, 0, 1),
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(172, 16, 0, 1),
    Ipv4Addr::new(192, 168, 1, 1),
    Ipv4Addr::new(169, 254, 169, 254), // metadata of most clouds
    Ipv4Addr::new(100, 100, 100, 200), // metadata of Alibaba
    Ipv4Addr::new(192, 0, 0, 192),     // metadata of Oracle
    Ipv4Addr::new(0, 0, 0, 0),
];
const PUBLIC: [Ipv4Addr; 3] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(93, 184, 216, 34)];

type Notation = (&'static str, fn(Ipv4Addr) -> String);

/// Ways to write the same address; each is as public as the address.
static NOTATIONS: [Notation; 17] = [
    ("dotted", |ip| ip.to_string()),
    ("trailing dot", |ip| format!("{ip}.")),
    ("decimal", |ip| ip.to_bits().to_string()),
    ("hexadecimal", |ip| format!("0x{:08x}", ip.to_bits())),
    ("hexadecimal in capitals", |ip| format!("0X{:X}", ip.to_bits())),
    ("octal", |ip| format!("0{:o}", ip.to_bits())),
    ("dotted hexadecimal", |ip| ip.octets().map(|part| format!("0x{part:x}")).join(".")),
    ("dotted octal", |ip| ip.octets().map(|part| format!("0{part:o}")).join(".")),
    ("mixed bases", |ip| {
        let [a, b, c, d] = ip.octets();
        format!("0x{a:x}.{b}.0{c:o}.{d}")
    }),
    ("two parts", |ip| format!("{}.{}", ip.octets()[0], ip.to_bits() & 0xff_ffff)),
    ("three parts", |ip| format!("{}.{}.{}", ip.octets()[0], ip.octets()[1], ip.to_bits() & 0xffff)),
    ("full-width digits", |ip| ip.to_string().chars().map(full_width).collect()),
    ("ideographic full stops", |ip| ip.to_string().replace('.', "\u{3002}")),
    ("percent-encoded", |ip| ip.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect()),
    ("IPv4-mapped", |ip| format!("[::ffff:{ip}]")),
    ("IPv4-mapped in hexadecimal", |ip| {
        format!("[0:0:0:0:0:FFFF:{:x}:{:x}]", ip.to_bits() >> 16, ip.to_bits() & 0xffff)
    }),
    ("NAT64", |ip| format!("[64:ff9b::{ip}]")),
];

/// Ways to write an address that lead to it through a relay of anybody's choice, or that mean nothing: always refused.
static REFUSED_NOTATIONS: [Notation; 6] = [
    ("IPv4-compatible", |ip| format!("[::{ip}]")),
    ("IPv4-translated", |ip| format!("[::ffff:0:{ip}]")),
    ("local-use NAT64", |ip| format!("[64:ff9b:1::{ip}]")),
    ("6to4", |ip| format!("[2002:{:x}:{:x}::1]", ip.to_bits() >> 16, ip.to_bits() & 0xffff)),
    ("Teredo", |ip| format!("[2001:0:4136:e378:8000:63bf:{:x}:{:x}]", !ip.to_bits() >> 16, !ip.to_bits() & 0xffff)),
    ("brackets around IPv4", |ip| format!("[{ip}]")),
];

fn full_width(c: char) -> char {
    char::from_u32(u32::from(c) + 0xfee0).filter(|_| c.is_ascii_digit()).unwrap_or(c)
}

/// Whole URLs. The names resolve as `address_of` says.
const REFUSED_URLS: [&str; 67] = [
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://localhost:8080/",
    "http://a.localhost/",
    "http://%6c%6f%63alhost/",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
    "http://ｌｏｃａｌｈｏｓｔ/",
    "http://localhost。/",
    "http://local\u{ad}host/",
    "http://local\u{200b}host/",
    "https://private.example/",
    "https://PRIVATE.example./",
    "https://mixed.example/",
    "https://mapped.example/",
    "https://nat64.example/",
    "https://prıvate.private.example/",
    "http://metadata.google.internal/",
    "http://metadata.google.internal./computeMetadata/v1/",
    "http://127.0.0.1.nip.io/",
    "http://[::1]/",
    "http://[0000:0000:0000:0000:0000:0000:0000:0001]/",
    "http://[0:0:0:0:0:0:0:0]/",
    "http://[FE80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[::1%251]/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::5efe:10.0.0.1]/",
    "http://[::1/",
    "http://::1/",
    "http://[::ffff:8.8.8.8.9]/",
    "http:127.0.0.1/",
    "http:/127.0.0.1/",
    "http:///127.0.0.1/",
    "http:\\\\127.0.0.1\\",
    "http://127.0.0.1\\@8.8.8.8/",
    "http://127.0.0.1?@8.8.8.8/",
    "http://127.0.0.1#@8.8.8.8/",
    "http://127.0.0.1:080/",
    "http://8.8.8.8@127.0.0.1/",
    "http://8.8.8.8:80@127.0.0.1/",
    "http://127.0.0.1@8.8.8.8/",
    "http://user:password@8.8.8.8/",
    "http://:password@8.8.8.8/",
    "http://8.8.8.8%2f@127.0.0.1/",
    "http://127.0.0.1%00/",
    "http://127.0.0.1%2e8.8.8.8/",
    "http://127.0.0.1\t/",
    "http://127.0.0.1\n.example.com/",
    "http://8.8.8.8 /",
    "http://08.8.8.8/",
    "http://256.256.256.256/",
    "http://1.2.3.4.5/",
    "http://4294967296/",
    "http://0x100000000/",
    "http://8.8.8.8:0/",
    "http://8.8.8.8:65536/",
    "http://8.8.8.8/#fragment",
    "http://",
    "//8.8.8.8/",
    "8.8.8.8",
    "ftp://8.8.8.8/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:25/",
    "ws://8.8.8.8/",
    "javascript:alert(1)",
];

const ALLOWED_URLS: [&str; 16] = [
    "https://public.example/",
    "https://PUBLIC.example./hooks?a=b",
    "https://public.example:8443/",
    "https://bücher.public.example/",
    "https://xn--bcher-kva.public.example/",
    "https://a_b.public.example/",
    "https://both.example/",
    "https://8.8.8.8.public.example/",
    "http://8.8.8.8\\@127.0.0.1/",
    "http://8.8.8.8/@127.0.0.1",
    "http://8.8.8.8/?url=http://127.0.0.1/",
    "http://@8.8.8.8/",
    "https://[2606:4700:4700::1111]/",
    "https://[2606:4700:4700:0:0:0:0:1111]:444/",
    "https://[2a00:1450:4001:800::200e]/",
    "http:8.8.8.8",
];

/// What the names of this table resolve to.
fn address_of(name: &str) -> Vec<IpAddr> {
    let texts: &[&str] = match name {
        "mixed.example" => &["8.8.8.8", "10.0.0.1"],
        "mapped.example" => &["::ffff:10.0.0.1"],
        "nat64.example" => &["64:ff9b::a00:1"],
        "both.example" => &["8.8.8.8", "2606:4700:4700::1111"],
        "metadata.google.internal" => &["169.254.169.254"],
        _ if name == "localhost" || name.ends_with(".localhost") || name.ends_with(".nip.io") => &["127.0.0.1"],
        _ if name.ends_with("private.example") => &["10.0.0.7"],
        _ if name.ends_with("public.example") => &["93.184.216.34"],
        _ => panic!("nothing in this table has the name {name}"),
    };
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn url(address: &str) -> String {
    if address.contains(':') { format!("http://[{address}]/") } else { format!("http://{address}/") }
}

fn refused() -> BTreeSet<String> {
    let ranges = REFUSED_IPV4.iter().chain(&REFUSED_IPV6).flat_map(|(_, first, last, _)| [url(first), url(last)]);
    let every = NOTATIONS.iter().chain(&REFUSED_NOTATIONS);
    let private = every.flat_map(|(_, write)| PRIVATE.map(|ip| format!("http://{}/", write(ip))));
    let through = REFUSED_NOTATIONS.iter().flat_map(|(_, write)| PUBLIC.map(|ip| format!("http://{}/", write(ip))));
    ranges.chain(private).chain(through).chain(REFUSED_URLS.map(str::to_owned)).collect()
}

fn allowed() -> BTreeSet<String> {
    let reachable = REACHABLE.iter().flat_map(|(_, first, last, _)| [url(first), url(last)]);
    let neighbours = REFUSED_IPV4.iter().chain(&REFUSED_IPV6).flat_map(|(.., beside)| beside.iter().map(|ip| url(ip)));
    let public = NOTATIONS.iter().flat_map(|(_, write)| PUBLIC.map(|ip| format!("https://{}/", write(ip))));
    reachable.chain(neighbours).chain(public).chain(ALLOWED_URLS.map(str::to_owned)).collect()
}

/// `Ok`: it may be connected to. `Err`: why not.
async fn judge(resolver: &Resolver, url: &str) -> Result<(), String> {
    let url = check_url(url).map_err(|error| error.to_string())?;
    match resolver.check(&url).await {
        Ok(_) => Ok(()),
        Err(ResolveError::Blocked(blocked)) => Err(blocked.to_string()),
        Err(error) => panic!("{url}: {error}"),
    }
}

#[tokio::test]
async fn whatever_leads_inside_is_refused_however_it_is_written_and_the_rest_is_not() {
    let resolver = test_names::resolver(Guard::default(), address_of).await;
    let (refused, allowed) = (refused(), allowed());
    let mut wrong = Vec::new();
    for url in &refused {
        if judge(&resolver, url).await.is_ok() {
            wrong.push(format!("not refused: {url}"));
        }
    }
    for url in &allowed {
        if let Err(why) = judge(&resolver, url).await {
            wrong.push(format!("not allowed: {url}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused.len() >= 200 && allowed.len() >= 50, "{} refused, {} allowed", refused.len(), allowed.len());
}
