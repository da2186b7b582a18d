use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record};
use tokio::net::UdpSocket;

use super::*;

/// For answers that come, and for those that do not.
const AMPLE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(400);

/// What a name server says to one question; `None` is silence.
type Answer = fn(RecordType) -> Option<Result<Vec<RData>, ResponseCode>>;

async fn name_server(answer: Answer) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let query = question.queries[0].clone();
            let Some(answer) = answer(query.query_type()) else { continue };
            let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
            reply.add_query(query.clone());
            match answer {
                Ok(data) => {
                    let records = data.into_iter().map(|data| Record::from_rdata(query.name().clone(), 60, data));
                    reply.insert_answers(records.collect());
                }
                Err(code) => reply.metadata.response_code = code,
            }
            socket.send_to(&reply.to_vec().unwrap(), peer).await.unwrap();
        }
    });
    addr
}

async fn resolve(answer: Answer) -> Result<Vec<IpAddr>, ResolveError> {
    resolve_within(AMPLE, answer).await
}

async fn resolve_within(timeout: Duration, answer: Answer) -> Result<Vec<IpAddr>, ResolveError> {
    let server = name_server(answer).await;
    let resolver = Resolver::with_name_servers(&[server], Guard::default(), timeout).unwrap();
    resolver.check(&"https://hooks.example.com/".parse().unwrap()).await
}

fn v4(text: &str) -> RData {
    RData::A(A(text.parse().unwrap()))
}

fn v6(text: &str) -> RData {
    RData::AAAA(AAAA(text.parse().unwrap()))
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
    ips.sort();
    ips
}

#[tokio::test]
async fn both_families_are_resolved_and_one_is_enough() {
    let both =
        resolve(|family| Some(Ok(if family == RecordType::A { vec![v4("8.8.8.8")] } else { vec![v6("2606::1")] })));
    let mut both = both.await.unwrap();
    both.sort();
    assert_eq!(both, ips(&["8.8.8.8", "2606::1"]));
    let one = |family| Some(Ok(if family == RecordType::A { vec![v4("8.8.8.8"), v4("8.8.4.4")] } else { vec![] }));
    let mut one = resolve(one).await.unwrap();
    one.sort();
    assert_eq!(one, ips(&["8.8.8.8", "8.8.4.4"]));
}

#[tokio::test]
async fn silence_about_one_family_does_not_hide_the_other() {
    assert_eq!(
        resolve(|family| (family == RecordType::A).then(|| Ok(vec![v4("8.8.8.8")]))).await,
        Ok(ips(&["8.8.8.8"]))
    );
}

#[tokio::test]
async fn a_name_that_does_not_exist_or_has_no_addresses_is_an_answer() {
    assert_eq!(resolve(|_| Some(Err(ResponseCode::NXDomain))).await, Err(ResolveError::DoesNotExist));
    assert_eq!(resolve(|_| Some(Ok(vec![]))).await, Err(ResolveError::DoesNotExist));
}

#[tokio::test]
async fn a_name_server_that_cannot_tell_gives_no_answer() {
    assert_eq!(resolve(|_| Some(Err(ResponseCode::ServFail))).await, Err(ResolveError::NoAnswer));
    assert_eq!(resolve(|_| Some(Err(ResponseCode::Refused))).await, Err(ResolveError::NoAnswer));
    let half =
        |family| Some(Err(if family == RecordType::A { ResponseCode::NXDomain } else { ResponseCode::ServFail }));
    assert_eq!(resolve(half).await, Err(ResolveError::NoAnswer));
}

#[tokio::test]
async fn silence_a_half_answer_and_a_closed_port_are_no_answers() {
    assert_eq!(resolve_within(SHORT, |_| None).await, Err(ResolveError::NoAnswer));
    let half = |family| (family == RecordType::A).then_some(Err(ResponseCode::NXDomain));
    assert_eq!(resolve_within(SHORT, half).await, Err(ResolveError::NoAnswer));
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let resolver = Resolver::with_name_servers(&[closed], Guard::default(), SHORT).unwrap();
    assert_eq!(resolver.check(&"https://example.com/".parse().unwrap()).await, Err(ResolveError::NoAnswer));
}

#[tokio::test]
async fn a_private_address_in_any_answer_refuses_the_host() {
    let mixed = resolve(|_| Some(Ok(vec![v4("8.8.8.8"), v4("10.0.0.1")]))).await;
    assert_eq!(mixed, Err(ResolveError::Blocked(Blocked("10.0.0.1".parse().unwrap()))));
    let other_family =
        |family| Some(Ok(if family == RecordType::A { vec![v4("8.8.8.8")] } else { vec![v6("fd00::1")] }));
    assert_eq!(resolve(other_family).await, Err(ResolveError::Blocked(Blocked("fd00::1".parse().unwrap()))));
}

#[tokio::test]
async fn the_hosts_file_and_addresses_need_no_name_server() {
    let resolver =
        Resolver::system(Guard { allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()] }, AMPLE);
    let resolver = resolver.unwrap();
    assert!(resolver.check(&"http://localhost/".parse().unwrap()).await.unwrap().contains(&[127, 0, 0, 1].into()));
    assert_eq!(resolver.check(&"http://8.8.8.8/".parse().unwrap()).await, Ok(ips(&["8.8.8.8"])));
    let refused = resolver.check(&"http://10.0.0.1/".parse().unwrap()).await;
    assert!(matches!(refused, Err(ResolveError::Blocked(_))));
    let nonsense: String = format!("http://{}.example/", "x".repeat(64));
    assert_eq!(resolver.check(&nonsense.parse().unwrap()).await, Err(ResolveError::DoesNotExist));
}

#[tokio::test]
async fn an_answer_is_kept_for_its_time_and_judged_anew_each_time() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let server = name_server(|family| {
        ASKED.fetch_add(1, Ordering::SeqCst);
        Some(Ok(if family == RecordType::A { vec![v4("8.8.8.8")] } else { vec![] }))
    });
    let resolver = Resolver::with_name_servers(&[server.await], Guard::default(), AMPLE).unwrap();
    for _ in 0..3 {
        let resolved = resolver.check(&"https://hooks.example.com/".parse().unwrap()).await;
        assert_eq!(resolved, Ok(ips(&["8.8.8.8"])));
    }
    // That there is no IPv6 address came without a time for which that holds, so it is asked for again.
    assert_eq!(ASKED.load(Ordering::SeqCst), 1 + 3);
}

#[tokio::test]
async fn of_an_answer_with_many_addresses_few_are_used() {
    let many = |family| (family == RecordType::A).then(|| Ok((1..=24).map(|n| v4(&format!("8.8.8.{n}"))).collect()));
    assert_eq!(resolve(many).await.unwrap().len(), 16);
}
