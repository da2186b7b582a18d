//! Three brokers that are one cluster on this machine. Each has a name, ports, a home and data of its own; they share a
//! cookie and an epmd.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::kit::servers::daemon::{free_port, secret};
use crate::kit::servers::programs::Programs;
use crate::kit::servers::rabbitmq::{Epmd, Node, RabbitMq};
use crate::kit::signal;

pub const NODES: usize = 3;
/// Seconds after which a node that says nothing is down for the others; the default is 60.
const NET_TICKTIME: u64 = 8;
/// A node of this machine takes long to start while it is busy, and to catch up.
const PATIENCE: Duration = Duration::from_secs(180);
/// Of one side and of the other: two wrong cookies that are the same would do.
const WRONG_COOKIES: [&str; 2] = ["here", "there"];

pub struct Cluster {
    epmd: Epmd,
    programs: Programs,
    directory: PathBuf,
    cookie: String,
    nodes: Vec<RabbitMq>,
    /// So many nodes have been made.
    made: usize,
}

/// Asks one node about all quorum queues. (Of three nodes on one machine, `rabbitmqctl list_queues` of 3.10.8 never ended.)
const QUEUES: &str = r#"
    Text = fun(Nodes) -> lists:join(",", [atom_to_list(Node) || Node <- Nodes]) end,
    [begin
        {Name, Leader} = amqqueue:get_pid(Queue),
        Members = maps:get(nodes, amqqueue:get_type_state(Queue)),
        Online = [Node || Node <- Members, is_pid(rpc:call(Node, erlang, whereis, [Name], 5000))],
        io:format("~s ~s ~s~n", [Leader, Text(Members), Text(Online)])
    end || Queue <- rabbit_amqqueue:list(), amqqueue:get_type(Queue) =:= rabbit_quorum_queue], ok."#;

/// A queue as a broker describes it.
#[derive(Debug)]
pub struct Queue {
    pub leader: String,
    members: Vec<String>,
    online: Vec<String>,
}

#[derive(Deserialize)]
struct Status {
    running_nodes: Vec<String>,
}

impl Queue {
    fn read(line: &str) -> Option<Queue> {
        let mut parts = line.split_whitespace();
        let mut nodes = || Some(parts.next()?.split(',').map(str::to_owned).collect::<Vec<_>>());
        let (leader, members, online) = (nodes()?, nodes()?, nodes()?);
        Some(Queue { leader: leader.into_iter().next()?, members, online })
    }
}

impl Cluster {
    /// Returns when all nodes are in it.
    pub async fn start(parent: &Path) -> Result<Cluster, String> {
        let directory = parent.join("cluster");
        let made = std::fs::create_dir(&directory)
            .and_then(|()| std::fs::set_permissions(&directory, Permissions::from_mode(0o711)));
        made.map_err(|error| format!("{}: {error}", directory.display()))?;
        let programs = Programs::find().map_err(|lack| lack.to_string())?;
        let mut epmd = Epmd::create(&directory)?;
        epmd.launch();
        let mut cluster = Cluster { epmd, programs, directory, cookie: secret(), nodes: Vec::new(), made: 0 };
        for _ in 0..NODES {
            // Each one finds those before it, and joins them.
            let mut node = cluster.make(free_port())?;
            node.start().await?;
            cluster.nodes.push(node);
        }
        cluster.runs(0, NODES).await?;
        Ok(cluster)
    }

    fn make(&mut self, port: u16) -> Result<RabbitMq, String> {
        self.made += 1;
        let name = format!("rabbitmq-{}", self.made);
        let own = format!("{name}-{port}@localhost");
        let peers = self.nodes.iter().map(name_of).chain([own.as_str()]);
        let peers = (1..).zip(peers).map(|(n, peer)| format!("cluster_formation.classic_config.nodes.{n} = {peer}\n"));
        let settings = format!(
            "cluster_formation.peer_discovery_backend = classic_config\n{}cluster_partition_handling = pause_minority\n",
            peers.collect::<String>()
        );
        let (epmd_port, cookie) = (self.epmd.port, &self.cookie);
        let node = Node { name: &name, port, epmd_port, cookie, settings: &settings, plugin: "" };
        let mut node = RabbitMq::node(&self.programs, &self.directory, &node)?;
        let erlang = node.environment.iter_mut().find(|(name, _)| *name == "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS");
        let (_, arguments) = erlang.ok_or("a node without arguments of Erlang")?;
        arguments.push_str(&format!(" -kernel net_ticktime {NET_TICKTIME}"));
        Ok(node)
    }

    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RabbitMq::url).collect()
    }

    pub fn name(&self, node: usize) -> &str {
        name_of(&self.nodes[node])
    }

    /// The node with most leaders of queues, and one with the fewest, as the brokers that are asked say.
    pub async fn leader_and_follower(&self, asked: usize) -> Result<(usize, usize), String> {
        let listed = async || self.queues(asked).await.ok().filter(|queues| !queues.is_empty());
        let queues = ask_long("the queues", listed).await?;
        let leads = |node: &usize| queues.iter().filter(|queue| queue.leader == self.name(*node)).count();
        let most = (0..NODES).max_by_key(leads).unwrap_or(0);
        let least = (0..NODES).rev().min_by_key(leads).unwrap_or(0);
        Ok((most, least))
    }

    pub async fn queues(&self, asked: usize) -> Result<Vec<Queue>, String> {
        let listed = self.nodes[asked].control(&["eval", QUEUES]).await?;
        Ok(listed.lines().filter_map(Queue::read).collect())
    }

    /// SIGKILL. Whether it was running.
    pub fn kill(&mut self, node: usize) -> bool {
        let daemon = &mut self.nodes[node].daemon;
        let was_running = !daemon.has_ended();
        daemon.kill();
        was_running
    }

    pub async fn start_again(&mut self, node: usize) -> Result<(), String> {
        self.nodes[node].start().await
    }

    /// SIGSTOP or SIGCONT. Whether it was there to get it.
    pub fn freeze(&self, node: usize, frozen: bool) -> bool {
        let number = if frozen { libc::SIGSTOP } else { libc::SIGCONT };
        self.nodes[node].daemon.id().is_some_and(|process| signal(process, number))
    }

    /// No message between it and the others: each side has a cookie for the other that is wrong. Clients still reach it.
    pub async fn cut_off(&self, node: usize) -> Result<(), String> {
        let others = (0..NODES).filter(|other| *other != node).map(|other| format!("'{}'", self.name(other)));
        let others = others.collect::<Vec<_>>().join(", ");
        let [here, there] = WRONG_COOKIES;
        let cut = format!(
            "Peers = [{others}], Own = node(),
            [rpc:call(Peer, erlang, set_cookie, [Own, {there}]) || Peer <- Peers],
            [begin erlang:set_cookie(Peer, {here}), erlang:disconnect_node(Peer) end || Peer <- Peers]."
        );
        self.nodes[node].control(&["eval", &cut]).await.map(drop)
    }

    /// They may speak with each other again.
    pub async fn reconnect(&self, node: usize) -> Result<(), String> {
        for (one, others) in (0..NODES).map(|one| (one, (0..NODES).filter(move |other| *other != one))) {
            let others = others.filter(|other| one == node || *other == node);
            let cookies = others.map(|other| format!("erlang:set_cookie('{}', {})", self.name(other), self.atom()));
            let cookies = cookies.collect::<Vec<_>>().join(", ");
            self.nodes[one].control(&["eval", &format!("{cookies}.")]).await?;
        }
        Ok(())
    }

    /// The cookie as Erlang writes it.
    fn atom(&self) -> String {
        format!("'{}'", self.cookie)
    }

    /// Kills it and deletes everything that it had.
    pub fn lose(&mut self, node: usize) -> Result<bool, String> {
        let was_running = self.kill(node);
        let directory = &self.nodes[node].daemon.directory;
        std::fs::remove_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        Ok(was_running)
    }

    /// A new node with a new name at the old one's port, and a member of every queue on it. As the operator does it.
    pub async fn replace(&mut self, lost: usize) -> Result<(), String> {
        let asked = (lost + 1) % NODES;
        let gone = self.name(lost).to_owned();
        self.shrink(asked, &gone).await?;
        self.nodes[asked].control(&["forget_cluster_node", &gone]).await?;
        // It looks for those that are left.
        let old = self.nodes.remove(lost);
        let mut new = self.make(old.port)?;
        new.start().await?;
        self.nodes.insert(lost, new);
        let grown = self.nodes[asked].tool("rabbitmq-queues", &["grow", self.name(lost), "all"]).await?;
        let failed = || format!("rabbitmq-queues grow: {}", String::from_utf8_lossy(&grown.stderr));
        grown.status.success().then_some(()).ok_or_else(failed)
    }

    /// A queue that has just got another leader refuses to lose a member, so it is asked again.
    async fn shrink(&self, asked: usize, gone: &str) -> Result<(), String> {
        let shrunk = async || {
            self.nodes[asked].tool("rabbitmq-queues", &["shrink", gone]).await.ok()?;
            let queues = self.queues(asked).await.ok()?;
            queues.iter().all(|queue| queue.members.iter().all(|member| member != gone)).then_some(())
        };
        ask_long("no member on the node that is gone", shrunk).await
    }

    /// Until the nodes that this one knows to run are so many.
    pub async fn runs(&self, asked: usize, count: usize) -> Result<(), String> {
        let runs = async || (self.running(asked).await.ok()? == count).then_some(());
        ask_long(&format!("{count} nodes that run"), runs).await
    }

    async fn running(&self, asked: usize) -> Result<usize, String> {
        let status = self.nodes[asked].control(&["cluster_status", "--formatter", "json"]).await?;
        let status: Status = serde_json::from_str(&status).map_err(|error| format!("cluster_status: {error}"))?;
        Ok(status.running_nodes.len())
    }

    /// Until every queue has all its members, on all nodes, and all of them are there.
    pub async fn is_whole(&self, asked: usize) -> Result<(), String> {
        self.runs(asked, NODES).await?;
        let whole = async || {
            let queues = self.queues(asked).await.ok()?;
            let is_whole = |queue: &Queue| queue.members.len() == NODES && queue.online.len() == NODES;
            (!queues.is_empty() && queues.iter().all(is_whole)).then_some(())
        };
        ask_long("all members of all queues", whole).await
    }
}

fn name_of(node: &RabbitMq) -> &str {
    node.environment.iter().find(|(name, _)| *name == "RABBITMQ_NODENAME").map_or("", |(_, name)| name)
}

/// One question takes seconds: each starts an Erlang of its own.
async fn ask_long<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> Result<T, String> {
    const AGAIN: Duration = Duration::from_millis(200);
    crate::kit::ask_until(PATIENCE, AGAIN, ask).await.ok_or_else(|| format!("{what}: not within {PATIENCE:?}"))
}
