//! The network: links that are cut, in both directions or in one, that lose, that are late.

use super::Lane;
use crate::history::Phase::{Begins, Ends};
use crate::hosts::Number;

impl Lane<'_> {
    pub(super) fn cut(&mut self) -> anyhow::Result<()> {
        let alone = self.host();
        let bridge = self.dice.once_in(3);
        // A bridge reaches both, who don't reach each other; otherwise one is alone.
        let apart = |one: Number, other: Number| (one == alone || other == alone) != bridge;
        let kind = if bridge { "cut: a bridge" } else { "cut: alone" };
        self.site.fault(kind, &[alone], Begins);
        self.site.network.change(|from, to, link| link.cut = apart(from, to))?;
        self.lasts(1_000, 25_000);
        self.site.network.change(|_, _, link| link.cut = false)?;
        self.site.fault(kind, &[alone], Ends);
        Ok(())
    }

    pub(super) fn one_way(&mut self) -> anyhow::Result<()> {
        let deaf = self.host();
        let mute = if self.dice.once_in(2) { None } else { Some(self.other_than(deaf)) };
        let unheard = |from: Number, to: Number| to == deaf && mute.is_none_or(|mute| mute == from);
        let kind =
            mute.map_or_else(|| "one-way: deaf".to_owned(), |mute| format!("one-way: deaf to a{mute}"));
        self.site.fault(&kind, &[deaf], Begins);
        self.site.network.change(|from, to, link| link.cut = unheard(from, to))?;
        self.lasts(2_000, 20_000);
        self.site.network.change(|_, _, link| link.cut = false)?;
        self.site.fault(&kind, &[deaf], Ends);
        Ok(())
    }

    pub(super) fn flap(&mut self) -> anyhow::Result<()> {
        let host = self.host();
        self.site.fault("flap", &[host], Begins);
        for _ in 0..self.dice.between(3, 12) {
            self.site.network.change(|from, to, link| link.cut = from == host || to == host)?;
            let on = self.lasts(100, 2_500);
            self.site.network.change(|_, _, link| link.cut = false)?;
            if !on || !self.lasts(100, 2_500) {
                break;
            }
        }
        self.site.fault("flap", &[host], Ends);
        Ok(())
    }

    pub(super) fn loss(&mut self) -> anyhow::Result<()> {
        let loss = u8::try_from(self.dice.between(5, 50))?;
        let host = if self.dice.once_in(2) { None } else { Some(self.host()) };
        let nodes = host.map_or_else(|| self.site.nodes().collect(), |host| vec![host]);
        let kind = format!("loss: {loss} of 100");
        let meant = |from: Number, to: Number| host.is_none_or(|host| from == host || to == host);
        self.site.fault(&kind, &nodes, Begins);
        self.site.network.change(|from, to, link| link.loss = if meant(from, to) { loss } else { 0 })?;
        self.lasts(3_000, 20_000);
        self.site.network.change(|_, _, link| link.loss = 0)?;
        self.site.fault(&kind, &nodes, Ends);
        Ok(())
    }

    pub(super) fn slow(&mut self) -> anyhow::Result<()> {
        let (host, late) = (self.host(), self.dice.between(50, 1_500));
        let kind = format!("slow: {}", self.site.network.slow(host, late)?);
        self.site.fault(&kind, &[host], Begins);
        self.lasts(3_000, 20_000);
        self.site.network.fast(host)?;
        self.site.fault(&kind, &[host], Ends);
        Ok(())
    }

    pub(super) fn cable(&mut self) -> anyhow::Result<()> {
        let host = self.host();
        self.site.fault("cable", &[host], Begins);
        self.site.network.cable(host, false)?;
        self.lasts(1_000, 15_000);
        self.site.network.cable(host, true)?;
        self.site.fault("cable", &[host], Ends);
        Ok(())
    }
}
