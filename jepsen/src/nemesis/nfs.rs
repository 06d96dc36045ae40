//! The file server and the guests that mount it: off, still, unreachable, full, read-only.

use std::time::Duration;

use super::Lane;
use crate::history::Phase::{Begins, Ends};
use crate::lab::{Export, SERVER};
use crate::site::{Excused, Site};

/// What a command in a guest may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// In ever smaller pieces, to the last byte. What others free meanwhile stays free.
const FILL: &str = "n=0; for size in 64M 8M 1M 64K 4K; do while fallocate -l $size /srv/disk/filler.$n 2>/dev/null; \
                    do n=$((n+1)); done; done; cat /dev/zero > /srv/disk/filler.end 2>/dev/null || true; sync";
const FREE: &str = "rm -f /srv/disk/filler.*; sync";

impl Lane<'_> {
    /// The server loses power and is booted again: what it had promised to keep is on its disk.
    pub(super) fn server_restart(&mut self) -> anyhow::Result<()> {
        let lab = self.site.lab()?;
        self.site.fault("server-restart", &[SERVER], Begins);
        lab.server().power_off()?;
        self.lasts(0, 10_000);
        lab.boot(lab.server())?;
        self.site.fault("server-restart", &[SERVER], Ends);
        Ok(())
    }

    pub(super) fn server_pause(&mut self) -> anyhow::Result<()> {
        let lab = self.site.lab()?;
        self.site.fault("server-pause", &[SERVER], Begins);
        lab.server().pause()?;
        let (low, high) = self.dice.pick(&[(1, 5), (5, 20), (20, 60), (60, 90)]).copied().unwrap_or((1, 90));
        self.lasts(low * 1_000, high * 1_000);
        lab.server().resume()?;
        self.site.fault("server-pause", &[SERVER], Ends);
        Ok(())
    }

    /// One client and the server don't reach each other; its peers reach it.
    pub(super) fn server_cut(&mut self) -> anyhow::Result<()> {
        let host = self.host();
        self.site.fault("server-cut", &[host], Begins);
        self.site
            .network
            .change(|from, to, link| link.cut = [(host, SERVER), (SERVER, host)].contains(&(from, to)))?;
        self.lasts(1_000, 40_000);
        self.site.network.change(|_, _, link| link.cut = false)?;
        self.site.fault("server-cut", &[host], Ends);
        Ok(())
    }

    /// The server hears a client that does not hear it, or the other way.
    pub(super) fn server_one_way(&mut self) -> anyhow::Result<()> {
        let host = self.host();
        let (lost, kind) = if self.dice.once_in(2) {
            ((SERVER, host), "server-one-way: answers are lost")
        } else {
            ((host, SERVER), "server-one-way: requests are lost")
        };
        self.site.fault(kind, &[host], Begins);
        self.site.network.change(|from, to, link| link.cut = (from, to) == lost)?;
        self.lasts(1_000, 30_000);
        self.site.network.change(|_, _, link| link.cut = false)?;
        self.site.fault(kind, &[host], Ends);
        Ok(())
    }

    /// A client loses power, with all that its kernel had not written, and is booted again.
    pub(super) fn power_off(&mut self) -> anyhow::Result<()> {
        let host = self.host();
        let lab = self.site.lab()?;
        let guest = lab.client(host)?;
        guest.power_off()?;
        self.site.lose(host, "power-off")?;
        self.lasts(500, 10_000);
        lab.boot(guest)?;
        self.site.bring_up(host, "power-off")
    }

    /// A node that starts meanwhile may say that it can't, and end.
    pub(super) fn export_full(&mut self) -> anyhow::Result<()> {
        let lab = self.site.lab()?;
        let _excused = excuse_all(self.site)?;
        self.site.fault("export-full", &[SERVER], Begins);
        let filled = lab.server().shell(FILL, PATIENCE);
        self.lasts(2_000, 15_000);
        lab.server().shell(FREE, PATIENCE)?;
        self.site.fault("export-full", &[SERVER], Ends);
        filled.map(drop)
    }

    /// The same holds here.
    pub(super) fn export_read_only(&mut self) -> anyhow::Result<()> {
        let lab = self.site.lab()?;
        let _excused = excuse_all(self.site)?;
        self.site.fault("export-read-only", &[SERVER], Begins);
        lab.export(Export::ReadOnly)?;
        self.lasts(2_000, 15_000);
        lab.export(Export::Normal)?;
        self.site.fault("export-read-only", &[SERVER], Ends);
        Ok(())
    }
}

fn excuse_all(site: &Site) -> anyhow::Result<Vec<Excused<'_>>> {
    site.nodes().map(|node| site.excuse(node)).collect()
}
