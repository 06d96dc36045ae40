//! A history as a page to look at: who did what when, what was done to the nodes meanwhile, and what broke a promise.
//!
//! The page has everything in itself. At the top stands the whole run, as counts; below it each violation, drawn in full
//! from the operations around those that show it. There the horizontal axis is the order of beginnings and ends, not
//! time: what was under way at once overlaps, however short it was, and what nobody did takes no room.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::checker::Violation;
use crate::history::{Did, Entry, Fault, NEVER, Outcome, Phase};

/// Violations that are drawn; the rest are named.
const DRAWN_MAX: usize = 10;
/// Operations that are drawn around a violation.
const AROUND_MAX: usize = 400;
/// Operations about the same message that are drawn wherever they are.
const NAMED_MAX: usize = 60;
/// Operations that are drawn of a run without violations.
const PLAIN_MAX: usize = 1500;

const STEP: usize = 7;
const LANE: usize = 16;
const LEFT: usize = 90;
const TOP: usize = 34;
const TICK_EVERY: usize = 12;
const BINS: usize = 200;
const BIN_HEIGHT: usize = 80;

const STYLE: &str = "body{font:13px sans-serif;margin:1em}svg{background:#fff;border:1px solid #ccc}\
div{overflow-x:auto;margin-bottom:1.5em}text{font:10px sans-serif}.ok{fill:#9fd39f}.fail{fill:#f3b7b7}\
.info{fill:#ffd58a}.mark{stroke:#c00;stroke-width:3}.named{stroke:#06c;stroke-width:2}.fault{fill:#888;opacity:.18}\
.once{stroke:#888;stroke-dasharray:3 2}.lane{stroke:#eee}.wrong{color:#b00}";

/// Nemesis windows: from, to.
type Window = (u64, u64, Fault);

pub fn page<O: Did>(title: &str, history: &[Entry<O>], violations: &[Violation]) -> String {
    let (faults, ops): (Vec<_>, Vec<_>) = history.iter().partition(|entry| entry.op.fault().is_some());
    let windows = windows(&faults);
    let mut page = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style><h1>{0}</h1>\n",
        escaped(title)
    );
    let _ = writeln!(
        page,
        "<p>{} operations, {} violations. <b style=\"background:#9fd39f\">ok</b> <b style=\"background:#f3b7b7\">fail</b> \
         <b style=\"background:#ffd58a\">info</b>, grey: what was done to nodes, red edge: shows the violation, blue edge: \
         about the same message. Hover to read.</p>",
        ops.len(),
        violations.len()
    );
    overview(&mut page, &ops, &windows, violations);
    for (number, violation) in violations.iter().take(DRAWN_MAX).enumerate() {
        let _ =
            writeln!(page, "<h2 class=\"wrong\">{}: {}</h2>", number + 1, escaped(&violation.to_string()));
        let chosen = around(&ops, violation);
        drawing(&mut page, &chosen, &windows, Some(violation));
    }
    for violation in violations.iter().skip(DRAWN_MAX) {
        let _ = writeln!(page, "<p class=\"wrong\">{}</p>", escaped(&violation.to_string()));
    }
    if violations.is_empty() {
        let chosen: Vec<_> = ops.iter().copied().take(PLAIN_MAX).collect();
        let _ = writeln!(page, "<h2>The first {} operations</h2>", chosen.len());
        drawing(&mut page, &chosen, &windows, None);
    }
    page
}

fn windows<O: Did>(faults: &[&Entry<O>]) -> Vec<Window> {
    let mut open: BTreeMap<(String, Vec<String>), u64> = BTreeMap::new();
    let mut windows = Vec::new();
    for entry in faults {
        let Some(fault) = entry.op.fault() else { continue };
        let key = (fault.kind.clone(), fault.nodes.clone());
        match fault.phase {
            Phase::Begins => {
                open.insert(key, entry.begun_us);
            }
            Phase::Ends => {
                let from = open.remove(&key).unwrap_or(0);
                windows.push((from, entry.told_us, fault));
            }
            Phase::Once => windows.push((entry.begun_us, entry.told_us, fault)),
        }
    }
    for ((kind, nodes), from) in open {
        windows.push((from, NEVER, Fault { kind, nodes, phase: Phase::Begins }));
    }
    windows
}

fn is_marked<O>(entry: &Entry<O>, violation: &Violation) -> bool {
    violation.marks.contains(&(entry.client, entry.begun_us))
}

/// Whether it is about a message that the violation names.
fn is_named<O: Did>(entry: &Entry<O>, words: &BTreeSet<&str>) -> bool {
    entry.op.names().iter().any(|name| words.contains(name))
}

fn words(violation: &Violation) -> BTreeSet<&str> {
    violation.what.split(|c: char| c.is_whitespace() || ":,\"()".contains(c)).collect()
}

/// What shows the violation, what is about the same message, and what else was under way nearby.
fn around<'a, O: Did>(ops: &[&'a Entry<O>], violation: &Violation) -> Vec<&'a Entry<O>> {
    let words = words(violation);
    let ours: Vec<_> = ops.iter().copied().filter(|entry| entry.account == violation.account).collect();
    let marked: Vec<_> = ours.iter().copied().filter(|entry| is_marked(entry, violation)).collect();
    let named = ours.iter().copied().filter(|entry| is_named(entry, &words)).take(NAMED_MAX);
    let distance = |entry: &&&Entry<O>| {
        let to_mark = marked.iter().map(|mark| {
            let after = entry.begun_us.saturating_sub(mark.told_us);
            after.max(mark.begun_us.saturating_sub(entry.told_us))
        });
        to_mark.min().unwrap_or(0)
    };
    let mut nearby: Vec<&&Entry<O>> = ours.iter().collect();
    nearby.sort_by_key(distance);
    nearby.truncate(AROUND_MAX);
    let mut chosen: BTreeMap<(u64, u64, u32), &Entry<O>> = BTreeMap::new();
    for entry in nearby.into_iter().copied().chain(named).chain(marked.iter().copied()) {
        chosen.insert((entry.begun_us, entry.told_us, entry.client), entry);
    }
    chosen.into_values().collect()
}

fn overview<O: Did>(page: &mut String, ops: &[&Entry<O>], windows: &[Window], violations: &[Violation]) {
    let end = ops.iter().map(|entry| entry.begun_us).max().unwrap_or(0).max(1);
    let bin = |at: u64| {
        usize::try_from(u128::from(at.min(end)) * (BINS as u128 - 1) / u128::from(end)).unwrap_or(0)
    };
    let mut counts = vec![[0_usize; 3]; BINS];
    for entry in ops {
        if let Some(count) = counts.get_mut(bin(entry.begun_us)) {
            count[class(entry.outcome).1] += 1;
        }
    }
    let most = counts.iter().map(|count| count.iter().sum()).max().unwrap_or(0).max(1_usize);
    let width = LEFT + BINS * STEP;
    let _ = writeln!(page, "<div><svg width=\"{width}\" height=\"{}\">", TOP + BIN_HEIGHT + 16);
    for (from, to, fault) in windows {
        let (x, to) = (LEFT + bin(*from) * STEP, LEFT + (bin(*to) + 1) * STEP);
        fault_box(page, x, to.saturating_sub(x), TOP + BIN_HEIGHT, fault);
    }
    for (place, count) in counts.iter().enumerate() {
        let mut y = TOP + BIN_HEIGHT;
        for (class, count) in ["ok", "fail", "info"].iter().zip(count) {
            let height = (count * BIN_HEIGHT).div_ceil(most);
            y = y.saturating_sub(height);
            let (x, w) = (LEFT + place * STEP, STEP - 1);
            let _ = writeln!(
                page,
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{height}\"><title>{count} {class}</title></rect>"
            );
        }
    }
    for (_, begun_us) in violations.iter().flat_map(|violation| &violation.marks) {
        let (x, bottom) = (LEFT + bin(*begun_us) * STEP, TOP + BIN_HEIGHT);
        let _ = writeln!(page, "<line class=\"mark\" x1=\"{x}\" y1=\"{TOP}\" x2=\"{x}\" y2=\"{bottom}\"/>");
    }
    let _ = writeln!(
        page,
        "<text x=\"{LEFT}\" y=\"{0}\">0 s</text><text x=\"{1}\" y=\"{0}\">{2}</text></svg></div>",
        TOP + BIN_HEIGHT + 12,
        width - 60,
        seconds(end)
    );
}

/// Places of times on the page: one step for each beginning and end.
struct Axis(Vec<u64>);

impl Axis {
    fn of<O>(chosen: &[&Entry<O>]) -> Self {
        let times = chosen.iter().flat_map(|entry| [entry.begun_us, entry.told_us]);
        let times: BTreeSet<u64> = times.filter(|time| *time != NEVER).collect();
        Self(times.into_iter().collect())
    }

    fn x(&self, at_us: u64) -> usize {
        LEFT + self.0.partition_point(|time| *time < at_us) * STEP
    }

    fn width(&self) -> usize {
        LEFT + (self.0.len() + 2) * STEP
    }
}

fn drawing<O: Did>(
    page: &mut String,
    chosen: &[&Entry<O>],
    windows: &[Window],
    violation: Option<&Violation>,
) {
    let axis = Axis::of(chosen);
    let clients: BTreeSet<u32> = chosen.iter().map(|entry| entry.client).collect();
    let lanes: BTreeMap<u32, usize> = clients.into_iter().zip(0..).collect();
    let height = TOP + (lanes.len() + 1) * LANE;
    let (first, last) = (axis.0.first().copied().unwrap_or(0), axis.0.last().copied().unwrap_or(0));
    let _ = writeln!(page, "<div><svg width=\"{}\" height=\"{height}\">", axis.width());
    for (from, to, fault) in windows.iter().filter(|(from, to, _)| *to >= first && *from <= last) {
        let x = axis.x(*from);
        fault_box(page, x, axis.x(*to).saturating_sub(x).max(2), height, fault);
    }
    for (place, time) in axis.0.iter().enumerate().step_by(TICK_EVERY) {
        let x = LEFT + place * STEP;
        let _ = writeln!(page, "<text x=\"{x}\" y=\"{}\">{}</text>", TOP - 6, seconds(*time));
    }
    for (client, lane) in &lanes {
        let y = TOP + lane * LANE;
        let (middle, width) = (y + LANE / 2, axis.width());
        let _ = writeln!(
            page,
            "<line class=\"lane\" x1=\"{LEFT}\" y1=\"{middle}\" x2=\"{width}\" y2=\"{middle}\"/>\
             <text x=\"4\" y=\"{}\">client {client}</text>",
            y + 12
        );
    }
    let words = violation.map(words).unwrap_or_default();
    for entry in chosen {
        let y = TOP + lanes.get(&entry.client).copied().unwrap_or(0) * LANE;
        let edge = match violation {
            Some(violation) if is_marked(entry, violation) => " mark",
            Some(_) if is_named(entry, &words) => " named",
            Some(_) | None => "",
        };
        bar(page, &axis, y, entry, edge);
    }
    page.push_str("</svg></div>\n");
}

fn bar<O: Did>(page: &mut String, axis: &Axis, y: usize, entry: &Entry<O>, edge: &str) {
    let x = axis.x(entry.begun_us);
    let end = if entry.told_us == NEVER { axis.width() } else { axis.x(entry.told_us) };
    let width = end.saturating_sub(x).max(STEP - 2);
    let op = serde_json::to_value(&entry.op).unwrap_or_default();
    let f = op.get("f").and_then(|f| f.as_str()).unwrap_or_default().to_owned();
    let told = if entry.told_us == NEVER { "never".to_owned() } else { seconds(entry.told_us) };
    let (class, _) = class(entry.outcome);
    let _ = writeln!(
        page,
        "<rect class=\"{class}{edge}\" x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"{}\"><title>{}</title></rect>",
        y + 1,
        LANE - 3,
        escaped(&format!(
            "client {} about {}: {class}, {} to {told}\n{op}",
            entry.client,
            entry.account,
            seconds(entry.begun_us)
        ))
    );
    if width > f.len() * 6 {
        let _ = writeln!(
            page,
            "<text x=\"{}\" y=\"{}\" pointer-events=\"none\">{}</text>",
            x + 2,
            y + 11,
            escaped(&f)
        );
    }
}

fn fault_box(page: &mut String, x: usize, width: usize, bottom: usize, fault: &Fault) {
    let what = escaped(&format!("{} {}", fault.kind, fault.nodes.join(" ")));
    let (class, height) =
        (if fault.phase == Phase::Once { "fault once" } else { "fault" }, bottom.saturating_sub(12));
    let _ = writeln!(
        page,
        "<rect class=\"{class}\" x=\"{x}\" y=\"12\" width=\"{width}\" height=\"{height}\"><title>{what}</title></rect>\
         <text x=\"{x}\" y=\"10\">{what}</text>"
    );
}

fn class(outcome: Outcome) -> (&'static str, usize) {
    match outcome {
        Outcome::Ok => ("ok", 0),
        Outcome::Fail => ("fail", 1),
        Outcome::Info => ("info", 2),
    }
}

fn seconds(us: u64) -> String {
    format!("{}.{:06} s", us / 1_000_000, us % 1_000_000)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Op;

    fn add(at: u64, token: String) -> Entry {
        let op = Op::Add { token, mailbox: "INBOX".to_owned(), placed: None };
        let client = u32::try_from(at % 9).unwrap();
        Entry { client, account: 0, begun_us: at * 100, told_us: at * 100 + 350, outcome: Outcome::Ok, op }
    }

    fn fault(at_us: u64, phase: Phase) -> Entry {
        let op = Op::Nemesis(Fault { kind: "pause".to_owned(), nodes: vec!["a2".to_owned()], phase });
        Entry { client: 0, account: 0, begun_us: at_us, told_us: at_us, outcome: Outcome::Ok, op }
    }

    #[test]
    fn of_a_long_run_only_what_is_around_the_violation_is_drawn() {
        let mut history: Vec<Entry> = (0..20_000).map(|at| add(at, format!("t{at}"))).collect();
        history.push(fault(1_000_000, Phase::Begins));
        history.push(fault(1_100_000, Phase::Ends));
        let mark = (history[10_000].client, history[10_000].begun_us);
        let what = "t19999 is <nowhere>, but can only be In".to_owned();
        let violation = Violation { rule: "set", account: 0, what, marks: vec![mark] };
        let page = page("a run", &history, &[violation]);
        assert!(
            page.contains("&quot;t10000&quot;") && page.contains("&quot;t19999&quot;"),
            "marked, and named"
        );
        assert!(!page.contains("&quot;t5000&quot;"), "far away");
        assert_eq!(page.matches("class=\"ok mark\"").count(), 1);
        assert_eq!(page.matches("class=\"ok named\"").count(), 1);
        assert!(page.contains("pause a2") && !page.contains("<nowhere>"));
        assert!(page.len() < 1_000_000, "{}", page.len());
    }

    #[test]
    fn a_run_without_violations_or_operations_is_a_page_too() {
        let history: Vec<Entry> = (0..3).map(|at| add(at, format!("t{at}"))).collect();
        assert_eq!(page("x", &history, &[]).matches("<title>client").count(), 3);
        assert!(page::<Op>("x", &[], &[]).ends_with("</svg></div>\n"));
    }

    #[test]
    fn what_never_ended_reaches_the_edge() {
        let mut entry = add(1, "a".to_owned());
        entry.told_us = NEVER;
        assert!(page("x", &[entry, fault(5, Phase::Begins)], &[]).contains("to never"));
    }
}
