//! A site asked and told by its own command line.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::Site;
use crate::hosts::Number;
use crate::server::{roost_binary, user};
use crate::strangers::run_with;

/// A command waits for what it asks for; longer than this it must not.
const PATIENCE: Duration = Duration::from_secs(60);

impl Site {
    /// Runs `roost WORDS` against a node; what it printed, or what it complained of.
    pub(crate) fn ask(&self, node: Number, words: &[&str]) -> anyhow::Result<String> {
        let (counter, socket) = {
            let node = self.node(node)?;
            (node.counter(), node.socket().display().to_string())
        };
        let all: Vec<&str> = words.iter().copied().chain(["--socket", &socket]).collect();
        let ran = counter.ask(&all, PATIENCE)?;
        if !ran.status.success() {
            bail!("roost {} at a{node}: {}", words.join(" "), ran.said().trim());
        }
        Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
    }

    /// The same of any node that answers, asked one after the other.
    pub(crate) fn ask_any(&self, but: Option<Number>, words: &[&str]) -> anyhow::Result<String> {
        let mut last = None;
        for node in self.nodes().filter(|node| but != Some(*node)) {
            match self.ask(node, words) {
                Ok(told) => return Ok(told),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("there is no other node")?)
    }

    /// Which node owns an account, says that node.
    pub(crate) fn owner(&self, account: usize) -> Option<Number> {
        self.nodes().find(|node| {
            let told = self.ask(*node, &["lock", "show", &user(account), "--json"]);
            let told: Option<Value> = told.ok().and_then(|told| serde_json::from_str(&told).ok());
            let owner = told.as_ref().and_then(|told| told.get(0)?.get("owner")?.as_str());
            owner == Some(&format!("a{node}"))
        })
    }
}

/// Whether this server has a command of `roost cluster`.
pub(crate) fn has(command: &str) -> bool {
    let help = roost_binary().and_then(|roost| {
        let ran = run_with(Command::new(roost).args(["cluster", "--help"]), b"", PATIENCE)?;
        Ok(ran.said())
    });
    help.is_ok_and(|help| help.lines().any(|line| line.split_whitespace().next() == Some(command)))
}
