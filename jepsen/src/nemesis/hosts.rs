//! Hosts and what runs on them: stopped, killed, booted; clocks that step; disks that are full, slow or gone.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::ensure;

use super::Lane;
use crate::history::Phase::{Begins, Ends};
use crate::site::commands::has;
use crate::site::give;
use crate::wait;

/// A node whose `state_dir` is gone is watched for so long.
const WIPED_WATCHED: Duration = Duration::from_secs(12);

impl Lane<'_> {
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        let host = self.host();
        self.site.fault("stop", &[host], Begins);
        self.site.node(host)?.pause();
        // Short ones are frequent, and there are long ones.
        let (low, high) = self.dice.pick(&[(1, 3), (3, 8), (5, 15), (15, 60)]).copied().unwrap_or((1, 60));
        self.lasts(low * 1_000, high * 1_000);
        self.site.node(host)?.resume();
        self.site.fault("stop", &[host], Ends);
        Ok(())
    }

    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        let host = self.host();
        self.site.take_down(host, "kill")?;
        self.lasts(500, 20_000);
        self.site.bring_up(host, "kill")
    }

    pub(super) fn bounce(&mut self) -> anyhow::Result<()> {
        let host = self.host();
        for _ in 0..self.dice.between(1, 3) {
            self.site.take_down(host, "bounce")?;
            self.site.bring_up(host, "bounce")?;
            if !self.lasts(0, 3_000) {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn kill_all(&mut self) -> anyhow::Result<()> {
        for host in self.site.nodes() {
            self.site.take_down(host, "kill-all")?;
        }
        self.lasts(0, 4_000);
        for host in self.site.nodes() {
            self.site.bring_up(host, "kill-all")?;
            self.lasts(0, 1_000);
        }
        Ok(())
    }

    /// Each node in turn, the next when the one before serves again.
    pub(super) fn rolling(&mut self) -> anyhow::Result<()> {
        for host in self.site.nodes() {
            self.site.end(host, "rolling")?;
            self.site.bring_up(host, "rolling")?;
            let site = self.site;
            let over = || self.over.load(Ordering::Acquire);
            let ready = || site.node(host).is_ok_and(|node| node.is_ready());
            let _served = wait::until(Duration::from_secs(30), || (ready() || over()).then_some(()));
            if over() {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn boot(&mut self) -> anyhow::Result<()> {
        let (host, ahead) = (self.host(), self.dice.below(10_000_000));
        self.site.take_down(host, "boot")?;
        self.site.node(host)?.boot_at(ahead);
        self.lasts(500, 8_000);
        self.site.bring_up(host, "boot")
    }

    /// What the host had not synced is gone.
    pub(super) fn power(&mut self) -> anyhow::Result<()> {
        let host = self.host();
        self.site.take_down(host, "power")?;
        self.site.node(host)?.power_fails()?;
        self.lasts(500, 8_000);
        self.site.bring_up(host, "power")
    }

    /// What nobody had synced is gone, of the mail too.
    pub(super) fn power_all(&mut self) -> anyhow::Result<()> {
        for host in self.site.nodes() {
            self.site.take_down(host, "power-all")?;
        }
        self.site.power_fails()?;
        self.lasts(0, 4_000);
        for host in self.site.nodes() {
            self.site.bring_up(host, "power-all")?;
        }
        Ok(())
    }

    pub(super) fn clock(&mut self) -> anyhow::Result<()> {
        let host = self.host();
        let step = i64::try_from(self.dice.below(7_200))? - 3_600;
        let kind = format!("clock: {step:+} s");
        self.site.fault(&kind, &[host], Begins);
        self.site.node(host)?.shift_clock(step)?;
        self.lasts(2_000, 20_000);
        self.site.node(host)?.shift_clock(0)?;
        self.site.fault(&kind, &[host], Ends);
        Ok(())
    }

    /// A node may end by itself when its disk is full, and may not be up again before there is room.
    pub(super) fn full_disk(&mut self) -> anyhow::Result<()> {
        let host = self.host();
        let _excused = self.site.excuse(host)?;
        self.site.fault("full-disk", &[host], Begins);
        let filled = self.site.node(host)?.disk()?.fill();
        self.lasts(2_000, 15_000);
        self.site.node(host)?.disk()?.free()?;
        self.site.fault("full-disk", &[host], Ends);
        filled
    }

    pub(super) fn slow_disk(&mut self) -> anyhow::Result<()> {
        let host = self.host();
        if !self.site.node(host)?.disk()?.can_be_slow() {
            return self.stutter(host);
        }
        let operations = u32::try_from(self.dice.between(4, 40))?;
        let kind = format!("slow-disk: {operations} operations a second");
        self.site.fault(&kind, &[host], Begins);
        self.site.node(host)?.disk()?.slow(Some(operations))?;
        self.lasts(3_000, 20_000);
        self.site.node(host)?.disk()?.slow(None)?;
        self.site.fault(&kind, &[host], Ends);
        Ok(())
    }

    /// Where the kernel can't slow a disk: everything of the node stands still again and again.
    fn stutter(&mut self, host: u8) -> anyhow::Result<()> {
        let kind = "slow-disk: this kernel has none, SIGSTOP in bursts";
        self.site.fault(kind, &[host], Begins);
        for _ in 0..self.dice.between(10, 60) {
            self.site.node(host)?.pause();
            let on = self.lasts(50, 300);
            self.site.node(host)?.resume();
            if !on || !self.lasts(5, 50) {
                break;
            }
        }
        self.site.fault(kind, &[host], Ends);
        Ok(())
    }

    /// A node that remembers nothing must not go on as the one it was: it says so and does not serve. Then it is replaced,
    /// or, where the server can't do that, given back what it had, as by an operator who finds the disk.
    pub(super) fn wiped(&mut self) -> anyhow::Result<()> {
        let host = self.host();
        let _excused = self.site.excuse(host)?;
        self.site.take_down(host, "wiped")?;
        let (state, aside) = {
            let node = self.site.node(host)?;
            (node.state(), node.state().with_extension("aside"))
        };
        fs::rename(&state, &aside)?;
        fs::create_dir(&state)?;
        give(&state)?;
        self.site.bring_up(host, "wiped")?;
        let served = wait::until(WIPED_WATCHED, || {
            let over = self.over.load(Ordering::Acquire);
            let ready = self.site.node(host).is_ok_and(|node| node.is_ready());
            (over || ready).then_some(ready)
        });
        self.site.take_down(host, "wiped")?;
        if has("add") {
            fs::remove_dir_all(&aside)?;
            self.replace(host)?;
        } else {
            fs::remove_dir_all(&state)?;
            fs::rename(&aside, &state)?;
            self.site.bring_up(host, "wiped")?;
        }
        ensure!(
            served != Some(true),
            "a{host} served with an empty state_dir, under the id that it had before"
        );
        Ok(())
    }
}
