//! Random histories of several sites, delivered in random causal orders, with duplicates: all converge (I2, I7).
//!
//! A failure prints the shortest history that proptest found, and keeps its seed in `proptest-regressions`; the next
//! run replays it first. `PROPTEST_CASES` asks for more histories.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::sites::{Apply, Shown, Site, content_digest, honest, shown, validity_of};
use crate::op::Path;
use crate::state::{AccountState, Applied, Effects};
use crate::{EntryId, MailboxId, Op, Record, SpecialUse, VersionVector};

/// One thing that happens: at which site, what, and two numbers to choose objects with.
#[derive(Clone, Copy, Debug)]
struct Step {
    site: u8,
    what: u8,
    pick: u8,
    with: u8,
}

fn steps(length: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = (0..6_u8, 0..64_u8, any::<u8>(), any::<u8>());
    let step = step.prop_map(|(site, what, pick, with)| Step { site, what, pick, with });
    prop::collection::vec(step, 1..length)
}

fn choose<T: Copy>(from: &[T], pick: u8) -> Option<T> {
    from.get(usize::from(pick) % from.len().max(1)).copied()
}

const LEVELS: [&str; 4] = ["P", "Q", "R", "Sent"];
const FLAGS: [&str; 5] = ["\\Seen", "\\Flagged", "\\Deleted", "$Label", "$LABEL"];

/// The operation that a step makes at a site, from what the site sees.
fn act(site: &mut Site, step: Step) {
    let entries: Vec<EntryId> = shown(&site.state).entries.into_keys().collect();
    let named = |(id, mailbox): (MailboxId, &crate::state::Mailbox)| mailbox.name().map(|_| id);
    let known: Vec<_> = site.state.mailboxes().filter_map(named).collect();
    let live: Vec<_> =
        known.iter().copied().filter(|id| site.state.mailbox(*id).unwrap().is_live()).collect();
    let (Some(mailbox), Some(any_mailbox)) = (choose(&live, step.with), choose(&known, step.with)) else {
        return;
    };
    let text = format!("text {}", step.pick % 4);
    match (step.what, choose(&entries, step.pick)) {
        (0..4, _) => _ = site.append(mailbox, &text),
        (4..8, _) => _ = site.deliver(mailbox, &text, Some(u64::from(step.pick % 4))),
        (8..10, Some(entry)) => _ = site.copy(entry, mailbox),
        (10..14, Some(entry)) => _ = site.move_to(entry, mailbox),
        (14..17, Some(entry)) => site.expunge(entry),
        (17..23, Some(entry)) => {
            let flag = FLAGS[usize::from(step.with) % FLAGS.len()];
            if step.with < 128 { site.store(entry, flag, "") } else { site.store(entry, "", flag) }
        }
        (23..26, Some(entry)) => site.number(entry, 1 + u32::from(step.with)),
        (26, Some(entry)) => {
            let tags = site.state.observed_tags(entry).into_iter().map(|tag| (entry, tag)).collect();
            let exposed_next = u32::from(step.with);
            site.issue(Op::UidLate { mailbox, tags, exposed_next });
        }
        (27..40, _) => act_on_mailboxes(site, step, mailbox, any_mailbox, &live),
        (40..44, _) => act_on_account(site, step, mailbox),
        (_, _) => {}
    }
}

fn act_on_mailboxes(site: &mut Site, step: Step, mailbox: MailboxId, any: MailboxId, live: &[MailboxId]) {
    let level = LEVELS[usize::from(step.pick) % LEVELS.len()];
    let parent = choose(live, step.pick / 4).filter(|_| step.pick.is_multiple_of(3));
    match step.what {
        27..30 => {
            let path = Path { parent, level: level.to_owned() };
            if !live.contains(&site.state.mailbox_id_for(&path)) {
                site.create(parent, level);
            }
        }
        30..33 if mailbox != site.state.inbox() => site.rename(mailbox, parent, level),
        33..36 if mailbox != site.state.inbox() => site.delete(mailbox),
        36 if !live.contains(&any) => site.undelete(any),
        37 => {
            let rights = (step.pick > 60).then_some(["lr", "lrsw", "lit"][usize::from(step.pick % 3)]);
            site.set_acl(mailbox, ["bob", "-eve"][usize::from(step.with % 2)], rights);
        }
        38 => {
            let lineage = (0, site.site());
            let horizon = 65_536 * u32::from(step.pick);
            let uid_validity = validity_of(step.with % 3);
            site.issue(Op::Horizon { mailbox, uid_validity, horizon, lineage });
        }
        39 => {
            let purpose = [Some(SpecialUse::Sent), Some(SpecialUse::Junk), None][usize::from(step.pick % 3)];
            site.issue(Op::SpecialUse { mailbox, purpose });
        }
        _ => {}
    }
}

fn act_on_account(site: &mut Site, step: Step, mailbox: MailboxId) {
    let name = LEVELS[usize::from(step.pick) % LEVELS.len()];
    match (step.what, step.pick % 4) {
        (40, _) => _ = site.issue(Op::Subscribe { name: name.to_owned(), on: step.with < 128 }),
        (41, _) => {
            let mailbox = (step.pick.is_multiple_of(2)).then_some(mailbox);
            let value = (step.with < 128).then(|| vec![step.with]);
            site.issue(Op::Metadata { mailbox, key: name.to_owned(), value });
        }
        (42, 0) => {
            let (site_id, home_epoch) = (site.site(), u64::from(step.with % 4));
            site.issue(Op::Home { site: site_id, home_epoch, lineage: (0, site_id) });
        }
        (42, _) => _ = site.issue(Op::ScriptActivate { name: (step.with < 128).then(|| name.to_owned()) }),
        (_, 0) => site.delete_script(name),
        (_, _) => site.put_script(name, &format!("keep; # {}", step.with)),
    }
}

/// Delivers one record and checks what must hold of every delivery.
fn deliver(to: &mut Site, record: &Record) -> Result<(), String> {
    let before = shown(&to.state);
    let applied = to.take(record);
    let after = shown(&to.state);
    match applied {
        Applied::Known => Err(format!("{} was not known before", record.dot)),
        Applied::Gap => Err(format!("{} comes after a gap", record.dot)),
        Applied::Done(effects) => complete(&before, &after, &effects, record),
    }
}

/// `Effects` names everything that looks different.
fn complete(before: &Shown, after: &Shown, effects: &Effects, record: &Record) -> Result<(), String> {
    let entries = before.changed_entries(after);
    if let Some(entry) = entries.iter().find(|entry| !effects.entries.contains(entry)) {
        return Err(format!("{entry} looks different and is not named: {record:?}"));
    }
    let mailboxes = before.changed_mailboxes(after);
    if let Some(mailbox) = mailboxes.iter().find(|mailbox| !effects.mailboxes.contains(mailbox)) {
        return Err(format!("mailbox {mailbox} looks different and is not named: {record:?}"));
    }
    if before.differs_beside_entries(after) && effects.mailboxes.is_empty() && !effects.account {
        return Err(format!("names look different and nothing is named: {record:?}"));
    }
    Ok(())
}

fn twice_is_once(site: &mut Site, pick: u8) -> Result<(), String> {
    let records = site.journal.clone();
    let Some(record) = records.get(usize::from(pick) % records.len().max(1)) else { return Ok(()) };
    let before = site.state.digest();
    if site.take(record) != Applied::Known || site.state.digest() != before {
        return Err(format!("{} applied twice is not as applied once", record.dot));
    }
    Ok(())
}

/// What every site has applied, if this one has everything that any of them issued (R-GC1).
fn stable(sites: &[Site], at: usize) -> Option<VersionVector> {
    let here = &sites[at];
    if !sites.iter().all(|other| here.covers_own_of(other)) {
        return None;
    }
    let least =
        sites.iter().min_by_key(|site| site.state.version().iter().map(|(_, head)| head.seq).sum::<u64>());
    let least = least.map(|site| site.state.version().clone())?;
    sites.iter().all(|site| site.state.version().covers_all(&least)).then_some(least)
}

fn forget(sites: &mut [Site], at: usize) -> Result<(), String> {
    let Some(stable) = stable(sites, at) else { return Ok(()) };
    let site = &mut sites[at];
    let (digest, seen) = (site.state.digest(), shown(&site.state));
    let forgotten = site.state.forget_removed(&stable);
    if site.state.digest() != digest || shown(&site.state) != seen {
        return Err("forgetting what is removed changed what is shown".to_owned());
    }
    match forgotten.iter().find(|entry| site.state.entry(**entry).is_some()) {
        Some(entry) => Err(format!("{entry} is said to be forgotten and is not")),
        None => Ok(()),
    }
}

/// Runs a history at `count` sites, lets every site hear of everything, and compares.
fn run(steps: &[Step], count: usize, apply: Apply) -> Result<AccountState, String> {
    let mut sites: Vec<_> = (0..count).map(|slot| Site::new(slot as u8, apply)).collect();
    let mut log = Vec::new();
    sites.iter_mut().for_each(|site| _ = site.create_inbox());
    sites.iter().for_each(|site| log.extend(site.journal.iter().cloned()));
    for (at, step) in steps.iter().enumerate() {
        let here = usize::from(step.site) % count;
        let there = (here + 1 + usize::from(step.pick) % (count - 1)) % count;
        sites.iter_mut().for_each(|site| site.now_ms += u64::from(at % 16 == 0));
        match step.what {
            0..44 => {
                let known = sites[here].journal.len();
                act(&mut sites[here], *step);
                log.extend(sites[here].journal[known..].iter().cloned());
            }
            44..58 => {
                let records = sites[here].missing_at(&sites[there]);
                let mut some = records.iter().take(1 + usize::from(step.with) % 8);
                some.try_for_each(|record| deliver(&mut sites[there], record))?;
            }
            58..62 => twice_is_once(&mut sites[here], step.with)?,
            _ => forget(&mut sites, here)?,
        }
    }
    heal(&mut sites)?;
    agree(&mut sites, &log)
}

fn heal(sites: &mut [Site]) -> Result<(), String> {
    for here in 0..sites.len() {
        for there in (0..sites.len()).filter(|there| *there != here) {
            for record in sites[here].missing_at(&sites[there]) {
                deliver(&mut sites[there], &record)?;
            }
        }
    }
    // The last site has heard from all before it; the others hear from it.
    for there in 0..sites.len() {
        for here in (0..sites.len()).rev().filter(|here| *here != there) {
            for record in sites[here].missing_at(&sites[there]) {
                deliver(&mut sites[there], &record)?;
            }
        }
    }
    Ok(())
}

/// Returns the state that they agree on.
fn agree(sites: &mut [Site], log: &[Record]) -> Result<AccountState, String> {
    // Who saw everything in the order in which it happened.
    let mut witness = AccountState::new(super::sites::account(), crate::SiteId::new(15).unwrap());
    for record in log {
        honest(&mut witness, record);
    }
    let truth = shown(&witness);
    for at in 0..sites.len() {
        let seen = shown(&sites[at].state);
        if seen != truth {
            return Err(format!("site {at} shows\n{seen:#?}\nand the truth is\n{truth:#?}"));
        }
        if sites[at].state.digest() != witness.digest() {
            return Err(format!("site {at} shows the same and has another digest"));
        }
        let stored = bincode::serialize(&sites[at].state).map_err(|e| e.to_string())?;
        let read: AccountState = bincode::deserialize(&stored).map_err(|e| e.to_string())?;
        if shown(&read) != truth || read.digest() != witness.digest() {
            return Err(format!("a checkpoint of site {at} reads back as another state"));
        }
        forget(sites, at)?;
    }
    Ok(witness)
}

proptest! {
    #[test]
    fn two_sites_converge_whatever_they_do(steps in steps(60)) {
        run(&steps, 2, honest).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn three_sites_converge_whatever_they_do(steps in steps(90)) {
        run(&steps, 3, honest).map_err(TestCaseError::fail)?;
    }
}

/// A checker that never meets the hard cases proves nothing.
#[test]
fn random_histories_reach_every_hard_case() {
    let mut runner = TestRunner::deterministic();
    let mut met = [0; 6];
    for _ in 0..300 {
        let history = steps(90).new_tree(&mut runner).unwrap().current();
        let mut state = run(&history, 3, honest).unwrap();
        let names = shown(&state).mailboxes;
        let voided = |(_, mailbox): (_, &crate::state::Mailbox)| {
            mailbox.deletes().next().is_some() && mailbox.is_live() && mailbox.deletes_in_force().is_empty()
        };
        let shadowed = |(id, _)| state.observed_tags(id).len() > 1;
        let cases = [
            !state.hidden_twins().is_empty(),
            names.iter().any(|mailbox| mailbox.name.as_str().contains('~')),
            names.iter().any(|mailbox| !mailbox.selectable),
            state.scripts().iter().any(|script| script.name.contains(".conflict-")),
            state.mailboxes().any(voided),
            state.entries().any(shadowed),
        ];
        met.iter_mut().zip(cases).for_each(|(met, case)| *met += u32::from(case));
        let everything = state.version().clone();
        state.forget_removed(&everything);
        assert!(state.entries().all(|(id, _)| state.place_of(id).is_some()), "something is kept for nothing");
    }
    assert!(met.iter().all(|met| *met > 0), "twins, suffixes, gone, scripts, voided, shadowed: {met:?}");
}

/// Fails unless the checker finds a history that shows `mutant` to be wrong.
fn is_caught(mutant: Apply) {
    let mut runner = TestRunner::deterministic();
    let found = (0..2000).find(|_| {
        let history = steps(80).new_tree(&mut runner).unwrap().current();
        run(&history, 3, mutant).is_err()
    });
    assert!(found.is_some(), "no history shows the mutant to be wrong");
}

#[test]
fn the_checker_catches_a_merge_that_lets_the_last_to_arrive_win() {
    is_caught(|state, record| {
        let mut late = record.clone();
        late.stamp = state.clock_mut().issue(0);
        state.apply(&late, content_digest(record))
    });
}

#[test]
fn the_checker_catches_a_merge_that_ignores_the_site_when_times_are_equal() {
    is_caught(|state, record| {
        let mut mutated = record.clone();
        if let Op::Flags { entries, set, clear } = &record.op {
            let mut ids = Vec::new();
            for flag in set.iter().chain(clear) {
                ids.push(state.facts.keywords.number(flag));
            }
            let written = entries.iter().filter_map(|entry| state.facts.entries.get(entry));
            let registers =
                written.flat_map(|entry| entry.flags()).filter(|register| ids.contains(&register.id));
            let equal = registers.filter(|register| register.stamp.get() >> 4 == record.stamp.get() >> 4);
            if let Some(register) = equal.max_by_key(|register| register.stamp) {
                mutated.stamp = crate::Stamp::from_u64(register.stamp.get() + 1);
            }
        }
        state.apply(&mutated, content_digest(record))
    });
}

#[test]
fn the_checker_catches_an_expunge_that_removes_tags_it_has_not_seen() {
    is_caught(|state, record| {
        let mut greedy = record.clone();
        if let Op::Expunge { entries } = &mut greedy.op {
            entries.iter_mut().for_each(|(entry, observed)| *observed = state.observed_tags(*entry));
        }
        state.apply(&greedy, content_digest(record))
    });
}

#[test]
fn the_checker_catches_effects_that_name_nothing() {
    is_caught(|state, record| match honest(state, record) {
        Applied::Done(_) => Applied::Done(Effects::default()),
        Applied::Known => Applied::Known,
        Applied::Gap => Applied::Gap,
    });
}
