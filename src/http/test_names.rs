//! A name server that answers as a test says, each time anew.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;

use super::guard::Guard;
use super::resolver::Resolver;

/// Every answer is for this question alone: nothing is to be kept.
const TTL: u32 = 0;

/// A resolver that asks a server which answers with these addresses; none means that there is no such name.
pub(super) async fn resolver(guard: Guard, answer: impl Fn(&str) -> Vec<IpAddr> + Send + 'static) -> Resolver {
    let server = name_server(answer).await;
    Resolver::with_name_servers(&[server], guard, Duration::from_secs(10)).unwrap()
}

async fn name_server(answer: impl Fn(&str) -> Vec<IpAddr> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let reply = reply(&Message::from_vec(&buffer[..length]).unwrap(), &answer);
            socket.send_to(&reply.to_vec().unwrap(), peer).await.unwrap();
        }
    });
    addr
}

fn reply(question: &Message, answer: &impl Fn(&str) -> Vec<IpAddr>) -> Message {
    let query = question.queries[0].clone();
    let name = query.name().to_string().to_lowercase();
    let addresses = answer(name.trim_end_matches('.'));
    let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
    reply.add_query(query.clone());
    if addresses.is_empty() {
        reply.metadata.response_code = ResponseCode::NXDomain;
    }
    let data = addresses.into_iter().filter_map(|ip| match (query.query_type(), ip) {
        (RecordType::A, IpAddr::V4(ip)) => Some(RData::A(A(ip))),
        (RecordType::AAAA, IpAddr::V6(ip)) => Some(RData::AAAA(AAAA(ip))),
        _ => None,
    });
    reply.insert_answers(data.map(|data| Record::from_rdata(query.name().clone(), TTL, data)).collect());
    reply
}
