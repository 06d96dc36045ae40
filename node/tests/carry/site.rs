//! Three nodes that are a site: one mail tree, three voters, and accounts that move among them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use config::{Config, Endpoint, Member};
use locking::{NodeId, Owner, Placed};
use roost::bind::{Sockets, prepare_directories};
use roost::serve::Ownership;
use rpc::pki;
use tempfile::TempDir;

use crate::world::{Client, OneNode, Told, account, configuration, eventually};

pub(crate) struct Site {
    nodes: Vec<Option<OneNode>>,
    /// With the addresses that they have got.
    configs: Vec<Config>,
    _tree: TempDir,
}

pub(crate) fn site() -> Site {
    site_with(|_| {})
}

/// A site whose nodes are configured otherwise.
pub(crate) fn site_with(configure: impl Fn(&mut Config)) -> Site {
    let tree = tempfile::tempdir().unwrap();
    let ca = pki::make_ca().unwrap();
    let mut prepared = Vec::new();
    let mut members = Vec::new();
    for id in 1..=3 {
        let directory = tempfile::tempdir().unwrap();
        let mut config = configuration(&ca, id, directory.path());
        config.mail.root = tree.path().join("mail");
        config.limits.drain_timeout = Duration::from_secs(3);
        configure(&mut config);
        prepare_directories(&config, None).unwrap();
        let sockets = Sockets::bind(&config, None).unwrap();
        let peer: SocketAddr = sockets.peer.as_ref().unwrap().local_addr().unwrap();
        members.push(Member { id, peer: peer.to_string() });
        prepared.push((config, sockets, directory));
    }
    // None of them is there before two are.
    let mut configs = Vec::new();
    let starting = prepared.into_iter().map(|(mut config, sockets, directory)| {
        config.cluster.member.0.clone_from(&members);
        configs.push(config.clone());
        std::thread::spawn(move || {
            OneNode::run(config, sockets, Ownership::OfMembers, Told::new(), directory)
        })
    });
    let starting: Vec<_> = starting.collect();
    let nodes: Vec<_> = starting.into_iter().map(|node| node.join().unwrap()).collect();
    for (config, node) in configs.iter_mut().zip(&nodes) {
        let at = |name| vec![Endpoint::Tcp(node.address(name))];
        (config.listen.imap, config.listen.pop3, config.listen.lmtp) = (at("imap"), at("pop3"), at("lmtp"));
        config.listen.peer = Some(Endpoint::Tcp(node.address("peer")));
    }
    Site { nodes: nodes.into_iter().map(Some).collect(), configs, _tree: tree }
}

impl Site {
    /// Node 1, 2 or 3.
    pub(crate) fn node(&self, id: u8) -> &OneNode {
        self.nodes[usize::from(id) - 1].as_ref().unwrap()
    }

    /// Stops a node as SIGTERM would; says how long it took.
    pub(crate) fn stop(&mut self, id: u8) -> Duration {
        let begun = Instant::now();
        let node = self.nodes[usize::from(id) - 1].as_mut().unwrap();
        node.stop();
        begun.elapsed()
    }

    /// Kills it: nothing is said, connections just end.
    pub(crate) fn kill(&mut self, id: u8) {
        self.nodes[usize::from(id) - 1] = None;
    }

    /// Starts one again that was stopped.
    pub(crate) fn start(&mut self, id: u8) {
        let place = &mut self.nodes[usize::from(id) - 1];
        let directory = place.take().unwrap().into_directory();
        let config = self.configs[usize::from(id) - 1].clone();
        let sockets = Sockets::bind(&config, None).unwrap();
        *place = Some(OneNode::run(config, sockets, Ownership::OfMembers, Told::new(), directory));
    }

    pub(crate) fn owner(&self, at: u8, user: &str) -> Owner {
        self.node(at).running().locking.owner(account(user).bucket())
    }

    fn is_owned_by(&self, user: &str, id: u8) -> bool {
        matches!(self.owner(id, user), Owner::Here(_))
    }

    /// The account is used at this node first, so it gets it.
    pub(crate) fn settle(&self, user: &str, id: u8) {
        self.node(id).imap(user).ask("a LOGOUT", "a OK ");
        if !self.is_owned_by(user, id) {
            // The leader had given it to another node before anybody asked for it.
            self.relocate(user, id);
        }
    }

    /// Wants an account at another node. One that could not leave in time stays where it is.
    pub(crate) fn drain(&self, user: &str, to: u8) {
        let (node, bucket) = (self.node(to), account(user).bucket());
        // A node that does not know yet of the last move is refused, and learns it.
        eventually("the wish", || {
            node.block_on(node.running().locking.drain(bucket, Some(NodeId(to)))).is_ok()
        });
    }

    /// Moves an account, and says how long it took from the wish to the new owner. On a busy machine it can stay at first.
    pub(crate) fn relocate(&self, user: &str, to: u8) -> Duration {
        for _ in 0..5 {
            let begun = Instant::now();
            self.drain(user, to);
            while begun.elapsed() < Duration::from_secs(6) {
                if self.is_owned_by(user, to) {
                    return begun.elapsed();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        panic!("{user} did not come to node {to}: it is at {:?}", self.owner(to, user));
    }

    /// Waits until it is known that an account which was to move stays.
    pub(crate) fn stays(&self, user: &str, at: u8) {
        let bucket = account(user).bucket();
        eventually("the end of the wish", || {
            self.node(at).running().locking.placed(bucket) == Placed::Owned(NodeId(at))
        });
        assert!(self.is_owned_by(user, at));
    }

    /// Waits until the sessions of a user are served by this node.
    pub(crate) fn served_at(&self, user: &str, id: u8, count: usize) {
        eventually("the sessions at their new owner", || {
            let live = self.node(id).live();
            let served = |who: &&roost::live::Who| {
                let away = matches!(who.via, Some(roost::live::Via::To { .. }));
                who.user.as_deref() == Some(user) && !away
            };
            live.iter().filter(served).count() == count
        });
    }

    pub(crate) fn deliver(&self, at: u8, user: &str, text: &str) -> String {
        let mut mta = self.node(at).client("lmtp");
        mta.hear("220 ");
        mta.ask("LHLO mta", "250 ");
        send(&mut mta, user, text)
    }
}

/// One message; returns what the MTA is told of it.
pub(crate) fn send(mta: &mut Client, user: &str, text: &str) -> String {
    mta.ask("MAIL FROM:<x@example.org>", "250 2.1.0");
    mta.ask(&format!("RCPT TO:<{user}>"), "250 2.1.5");
    mta.ask("DATA", "354 ");
    mta.send(text.as_bytes());
    mta.say(".");
    mta.hear("")
}
