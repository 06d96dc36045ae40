//! What an operator does to a site that is at work: moves, drains, another leader, a member that is replaced.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Lane;
use crate::history::Phase::{Begins, Ends, Once};
use crate::hosts::Number;
use crate::server::user;
use crate::site::give;
use crate::wait;

/// A member that was replaced serves within this, also when links are cut meanwhile.
const REPLACED: Duration = Duration::from_secs(90);

impl Lane<'_> {
    /// Accounts are given from node to node, whatever becomes of it: the command may find nobody to ask.
    pub(super) fn moves(&mut self) -> anyhow::Result<()> {
        self.site.fault("move", &[], Begins);
        for _ in 0..self.dice.between(5, 30) {
            let (account, host) = (self.dice.index(self.site.accounts()), self.host());
            let told = self.site.ask_any(None, &["cluster", "move", &user(account), &host.to_string()]);
            self.site.fault(&format!("move of account {account}: {}", said(&told)), &[host], Once);
            if !self.lasts(50, 1_000) {
                break;
            }
        }
        self.site.fault("move", &[], Ends);
        Ok(())
    }

    pub(super) fn drain(&mut self) -> anyhow::Result<()> {
        let host = self.host();
        self.site.fault("drain", &[host], Begins);
        let told = self.site.ask_any(None, &["cluster", "drain", "--no-wait", &host.to_string()]);
        self.site.fault(&format!("drain: {}", said(&told)), &[host], Once);
        self.lasts(2_000, 15_000);
        // Whether or not it was drained: it must not stay so.
        let deadline = Instant::now() + REPLACED;
        let mut last = Ok(String::new());
        let back = wait::until(REPLACED, || {
            last = self.site.ask_any(None, &["cluster", "undrain", &host.to_string()]);
            (last.is_ok() || Instant::now() > deadline).then_some(())
        });
        self.site.fault("drain", &[host], Ends);
        back.context("no answer")?;
        last.map(drop).with_context(|| format!("a{host} can't be undrained"))
    }

    pub(super) fn leader(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.dice.between(1, 5) {
            let host = self.host();
            let told = self.site.ask_any(None, &["cluster", "transfer-leader", &host.to_string()]);
            self.site.fault(&format!("leader: {}", said(&told)), &[host], Once);
            if !self.lasts(200, 3_000) {
                break;
            }
        }
        Ok(())
    }

    /// A member whose `state_dir` is gone is taken out and let in as a new one.
    pub(super) fn replace(&mut self, host: Number) -> anyhow::Result<()> {
        let id = host.to_string();
        let deadline = Instant::now() + REPLACED;
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut last = None;
        let mut tried = |words: &[&str]| {
            let done = wait::until(left(), || match self.site.ask_any(Some(host), words) {
                Ok(_) => Some(()),
                Err(error) => {
                    last = Some(format!("{error:#}"));
                    None
                }
            });
            done.with_context(|| format!("a{host} is not replaced within {REPLACED:?}: {last:?}"))
        };
        tried(&["cluster", "remove", "--force", &id])?;
        let state = self.site.node(host)?.state();
        fs::remove_dir_all(&state)?;
        fs::create_dir(&state)?;
        give(&state)?;
        self.site.bring_up(host, "wiped")?;
        tried(&["cluster", "add", &id])?;
        let ready =
            wait::until(left(), || self.site.node(host).is_ok_and(|node| node.is_ready()).then_some(()));
        ready.with_context(|| format!("a{host} was added and does not serve within {REPLACED:?}"))
    }
}

/// What came of a command, shortly.
fn said(told: &anyhow::Result<String>) -> String {
    match told {
        Ok(told) => told.trim().lines().next().unwrap_or("done").to_owned(),
        Err(error) => format!("{error:#}"),
    }
}
