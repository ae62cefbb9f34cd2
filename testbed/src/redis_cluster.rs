//! A private Redis Cluster: three primaries with a replica each, real servers on free loopback ports, ended with their owner.
//! Slots can be moved key by key, and nodes killed.

use crate::redis_server::RedisServer;
use std::thread;
use std::time::{Duration, Instant};

const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;
const READY_LIMIT: Duration = Duration::from_secs(60);
const ARGS: [&str; 8] = [
    "--cluster-enabled",
    "yes",
    "--cluster-config-file",
    "nodes.conf",
    "--cluster-node-timeout",
    "2000",
    "--repl-diskless-sync-delay",
    "0",
];

pub struct RedisCluster {
    /// The primaries, and behind them their replicas in the same order.
    pub nodes: Vec<RedisServer>,
    ids: Vec<String>,
}

impl RedisCluster {
    /// Starts six servers and waits until each has its part.
    pub fn start() -> Result<RedisCluster, String> {
        RedisCluster::start_with(&[])
    }

    /// As [`start`](RedisCluster::start), with more arguments for each server.
    pub fn start_with(args: &[&str]) -> Result<RedisCluster, String> {
        let args: Vec<&str> = ARGS.iter().chain(args).copied().collect();
        let nodes = (0..2 * PRIMARIES).map(|_| RedisServer::start_with(&args)).collect::<Result<Vec<_>, _>>()?;
        let ids = nodes.iter().map(|node| node.try_command(&["CLUSTER", "MYID"])).collect::<Result<Vec<_>, _>>()?;
        let cluster = RedisCluster { nodes, ids };
        for (number, node) in cluster.nodes.iter().enumerate() {
            node.try_command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()])?;
            if number < PRIMARIES {
                let slots = SLOTS * number / PRIMARIES..SLOTS * (number + 1) / PRIMARIES;
                let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
                let command = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str));
                node.try_command(&command.collect::<Vec<_>>())?;
            }
            node.try_command(&["CLUSTER", "MEET", "127.0.0.1", &cluster.nodes[0].port().to_string()])?;
        }
        let all = format!("cluster_known_nodes:{}", 2 * PRIMARIES);
        cluster.each_says(&["CLUSTER", "INFO"], &["cluster_state:ok", &all])?;
        for (number, replica) in cluster.nodes.iter().enumerate().skip(PRIMARIES) {
            replica.try_command(&["CLUSTER", "REPLICATE", &cluster.ids[number - PRIMARIES]])?;
        }
        for (number, node) in cluster.nodes.iter().enumerate() {
            let word = if number < PRIMARIES { "state=online" } else { "master_link_status:up" };
            says(node, &["INFO", "replication"], &[word])?;
        }
        // Who votes at a failover knows all replicas.
        let replicas = |text: &str| text.lines().filter(|line| line.contains("slave ")).count() == PRIMARIES;
        for node in &cluster.nodes {
            until(|| node.try_command(&["CLUSTER", "NODES"]).is_ok_and(|text| replicas(&text)))?;
        }
        Ok(cluster)
    }

    fn each_says(&self, command: &[&str], words: &[&str]) -> Result<(), String> {
        self.nodes.iter().try_for_each(|node| says(node, command, words))
    }

    /// The URL of a store in this cluster, with the primaries as its seeds.
    pub fn url(&self) -> String {
        let seeds: Vec<_> = self.nodes[..PRIMARIES].iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis+cluster://{}", seeds.join(","))
    }

    pub fn slot_of(&self, key: &str) -> String {
        self.nodes[0].command(&["CLUSTER", "KEYSLOT", key])
    }

    /// Which of the nodes is the primary of a key, as the living nodes say.
    pub fn primary_of(&self, key: &str) -> Option<usize> {
        let serves = |node: &RedisServer| node.try_command(&["EXISTS", key]).is_ok();
        self.nodes.iter().position(serves)
    }

    /// Moves a slot to another primary, key by key, with a pause after each step; returns how many keys moved.
    pub fn move_slot(&self, slot: &str, from: usize, to: usize, pause: Duration) -> usize {
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        target.command(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &self.ids[from]]);
        source.command(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &self.ids[to]]);
        let port = target.port().to_string();
        let mut moved = 0;
        loop {
            thread::sleep(pause);
            let key = source.command(&["CLUSTER", "GETKEYSINSLOT", slot, "1"]);
            if key.is_empty() {
                break;
            }
            source.command(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]);
            moved += 1;
        }
        for node in [target, source].into_iter().chain(&self.nodes[..PRIMARIES]) {
            node.command(&["CLUSTER", "SETSLOT", slot, "NODE", &self.ids[to]]);
        }
        moved
    }
}

fn says(node: &RedisServer, command: &[&str], words: &[&str]) -> Result<(), String> {
    let all = |text: String| words.iter().all(|word| text.contains(word));
    until(|| node.try_command(command).is_ok_and(all))
        .map_err(|_| format!("a node of the cluster never said {words:?} to {command:?}"))
}

fn until(condition: impl Fn() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + READY_LIMIT;
    while !condition() {
        if Instant::now() > deadline {
            return Err("the cluster did not get ready".into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
