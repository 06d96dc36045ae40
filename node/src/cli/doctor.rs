//! `roost doctor`

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use nfs_compat::probe::{Mount, Party, Report, Step};
use nfs_compat::{DiskFs, Fs};
use rand::RngExt as _;
use serde_json::{Value, json};

use super::exit::{Exit, Failure, complain, say};
use crate::{mail_volume, time};

const TOKEN_LENGTH_MAX: usize = 40;

/// Say what a directory, and the mount that it lies on, can and cannot do for mail
///
/// Reads the mount's options, and tries links, renames, syncs and listings in a directory that is gone afterwards. Each
/// line is one finding and what to change: "refuse" can lose mail and keeps a node from starting, "warn" is slow or
/// holds accounts up in trouble, "note" is good to know. Ends with 1 when something is refused. Run it as the user of
/// node.run_as.
///
/// With --with, two nodes find out how old their views of one volume get: run it at both, with the same new token.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Directory to examine, such as the mail.root of a node
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Compare views with another node that runs this with the same token at the same time; takes up to two minutes
    #[arg(long, value_name = "TOKEN")]
    with: Option<String>,
    /// Seconds to wait for the other node to begin
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "with")]
    wait: u64,
}

/// What each change of the other node took to be seen here.
type Lateness = Vec<(&'static str, Option<Duration>)>;

pub(crate) fn run(args: &DoctorArgs, as_json: bool) -> Result<Exit, Failure> {
    let fs = DiskFs::new();
    let name = format!("{:016x}", rand::rng().random::<u64>());
    let mut report = mail_volume::look(&fs, &args.path, &name, true);
    let mut late = None;
    if let Some(token) = &args.with {
        check(token)?;
        if report.refused().next().is_none() {
            late = Some(compare(&fs, args, token, &name, &mut report)?);
        }
    }
    let is_fit = report.refused().next().is_none();
    if as_json {
        say(format_args!("{:#}", value(&args.path, is_fit, &report, late.as_ref())));
    } else {
        say(text(&args.path, &report, late.as_ref()).trim_end());
    }
    Ok(if is_fit { Exit::Ok } else { Exit::Refused })
}

fn check(token: &str) -> Result<(), Failure> {
    let is_word = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if token.is_empty() || token.len() > TOKEN_LENGTH_MAX || !is_word {
        let advice =
            format!("--with takes a word of letters, digits and dashes, at most {TOKEN_LENGTH_MAX} long");
        return Err(Failure::usage(advice));
    }
    Ok(())
}

fn compare(
    fs: &dyn Fs,
    args: &DoctorArgs,
    token: &str,
    name: &str,
    report: &mut Report,
) -> Result<Lateness, Failure> {
    let clock = || SystemTime::UNIX_EPOCH + Duration::from_micros(time::unix_us());
    let mut party = Party::new(&args.path, Path::new(mail_volume::INSIDE), token, name, clock());
    party.begin(fs, clock())?;
    let until = time::now() + Duration::from_secs(args.wait);
    complain(format_args!("waiting for the other node: there, run `roost doctor PATH --with {token}`"));
    let mut was_alone = true;
    loop {
        match party.step(fs, clock(), report)? {
            Step::Done(late) => return Ok(late),
            Step::Again(wait) => std::thread::sleep(wait),
        }
        if was_alone && !party.is_alone() {
            was_alone = false;
            complain("the other node is there; this takes up to two minutes");
        }
        if party.is_alone() && time::now() > until {
            party.give_up(fs)?;
            return Err(Failure::try_again(format!("no other node came within {} s", args.wait)));
        }
    }
}

fn text(path: &Path, report: &Report, late: Option<&Lateness>) -> String {
    let mut text =
        format!("{}: {}\n", path.display(), report.mount.as_ref().map_or("?".to_owned(), described));
    let measured = report.measured;
    let mut facts = Vec::new();
    if let Some(ahead) = measured.clock_ahead_ms {
        let side = if ahead < 0 { "behind" } else { "ahead" };
        facts.push(format!("its clock is {} ms {side}", ahead.unsigned_abs()));
    }
    if let Some(sync) = measured.sync {
        facts.push(format!("a sync takes {:.2} ms", sync.as_secs_f64() * 1000.0));
    }
    if let Some(space) = measured.space {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        facts.push(format!(
            "{:.1} of {:.1} GiB are free",
            gib(space.available_bytes),
            gib(space.total_bytes)
        ));
    }
    if !facts.is_empty() {
        text.push_str(&format!("{}\n", facts.join(", ")));
    }
    for (what, late) in late.into_iter().flatten() {
        let seen = late.map_or("never".to_owned(), |late| format!("{:.1} s", late.as_secs_f64()));
        text.push_str(&format!("seen here after {seen:>7}: {what}\n"));
    }
    for finding in &report.findings {
        text.push_str(&format!("{:<7} {}: {finding}\n", finding.severity.word(), finding.code));
    }
    if report.findings.is_empty() {
        text.push_str("nothing to say against it\n");
    }
    text
}

/// `nfs4 from nas:/mail at /srv/mail (rw,vers=4.2,hard,...)`
fn described(mount: &Mount) -> String {
    format!("{} from {} at {} ({})", mount.kind, mount.source, mount.point.display(), mount.options.join(","))
}

fn value(path: &Path, is_fit: bool, report: &Report, late: Option<&Lateness>) -> Value {
    let findings = report.findings.iter().map(|finding| {
        json!({
            "severity": finding.severity.word(), "code": finding.code, "what": finding.what, "change": finding.change,
        })
    });
    let mount = report.mount.as_ref().map(|mount| {
        json!({ "point": mount.point, "type": mount.kind, "source": mount.source, "options": mount.options })
    });
    let late = late.map(|late| {
        let seen = |(what, late): &(&'static str, Option<Duration>)| {
            json!({ "what": what, "seconds": late.map(|late| late.as_secs_f64()) })
        };
        late.iter().map(seen).collect::<Vec<_>>()
    });
    json!({
        "path": path,
        "ok": is_fit,
        "mount": mount,
        "findings": findings.collect::<Vec<_>>(),
        "clock_ahead_ms": report.measured.clock_ahead_ms,
        "sync_ms": report.measured.sync.map(|sync| sync.as_secs_f64() * 1000.0),
        "available_bytes": report.measured.space.map(|space| space.available_bytes),
        "total_bytes": report.measured.space.map(|space| space.total_bytes),
        "seen_after": late,
    })
}
