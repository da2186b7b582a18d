//! One child process of the binary, with its log.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use super::{PATIENCE, eventually};
use crate::kit::{binary, process};

/// Cheap to clone. The stack that started it kills it at the latest when the test is over.
#[derive(Clone)]
pub struct Process(Arc<Inner>);

struct Inner {
    name: String,
    process: process::Process,
    lines: watch::Receiver<Vec<String>>,
}

impl Process {
    pub fn start(name: &str, command: Command) -> Process {
        let process = process::Process::start(command, Stdio::piped());
        let log = process.child().stderr.take().expect("stderr is a pipe");
        let (sender, lines) = watch::channel(Vec::new());
        std::thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                sender.send_modify(|lines: &mut Vec<String>| lines.push(line));
            }
        });
        Process(Arc::new(Inner { name: name.to_owned(), process, lines }))
    }

    pub fn log(&self) -> String {
        format!("---- {} ----\n{}\n", self.0.name, self.0.lines.borrow().join("\n"))
    }

    /// The first line of the log for which `pick` returns something.
    pub async fn logged<T>(&self, what: &str, pick: impl Fn(&Value) -> Option<T>) -> T {
        let mut lines = self.0.lines.clone();
        let find = |lines: &Vec<String>| {
            lines.iter().find_map(|line| serde_json::from_str(line).ok().as_ref().and_then(&pick))
        };
        let found = tokio::time::timeout(PATIENCE, lines.wait_for(|lines| find(lines).is_some())).await;
        match found {
            Ok(Ok(lines)) => find(&lines).expect("it was there"),
            _ => panic!("{} never logged {what}\n{}", self.0.name, self.log()),
        }
    }

    pub async fn logged_message(&self, message: &str) {
        self.logged(message, |line| (line["message"] == message).then_some(())).await;
    }

    /// Waits until it says that it can do its work.
    pub async fn ready(&self) {
        eventually(&format!("{} is ready\n", self.0.name), async || {
            assert!(self.is_running(), "{} ended instead of getting ready\n{}", self.0.name, self.log());
            (self.get("/readyz").await.0 == 200).then_some(())
        })
        .await;
    }

    /// Status and body of an answer of its HTTP server.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let address = |line: &Value| line["address"].as_str()?.parse::<SocketAddr>().ok();
        let address = self.logged("the address of its HTTP server", address).await;
        binary::get(address, path).await.unwrap_or_default()
    }

    /// Every series of `/metrics` with its value.
    pub async fn metrics(&self) -> BTreeMap<String, f64> {
        let (_, text) = self.get("/metrics").await;
        binary::series(&text).map(|(series, value)| (series.to_owned(), value)).collect()
    }

    /// The sum over all label values of one metric; 0 while it was never touched.
    pub async fn metric(&self, name: &str) -> f64 {
        binary::sum(&self.get("/metrics").await.1, name)
    }

    /// What it takes of memory, in KiB, and of files.
    pub fn holds(&self) -> (usize, usize) {
        let of_it = format!("/proc/{}", self.0.process.id());
        let status = std::fs::read_to_string(format!("{of_it}/status")).expect("it runs");
        let memory =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        let files = std::fs::read_dir(format!("{of_it}/fd")).expect("it runs").count();
        (memory.expect("its memory"), files)
    }

    pub fn is_running(&self) -> bool {
        self.0.process.ended().is_none()
    }

    pub fn kill(&self) {
        self.0.process.kill();
    }

    pub fn terminate(&self) {
        self.0.process.signal(libc::SIGTERM);
    }

    /// The exit code of a process that ends by itself.
    pub async fn exit_code(&self) -> Option<i32> {
        let ended = eventually(&format!("{} ends", self.0.name), async || self.0.process.ended()).await;
        ended.code()
    }
}
