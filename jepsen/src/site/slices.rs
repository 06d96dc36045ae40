//! Many runs one after the other, with a line for each in a file that is kept.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use super::{Options, Report};

/// Adds the line of a run to a list.
pub fn record(list: &Path, report: &Report) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(list)?;
    writeln!(file, "{}", report.line())?;
    Ok(())
}

/// The options of slice `number` of a series: other seeds, all else the same.
pub fn slice(options: &Options, number: u64) -> Options {
    Options { seed: options.seed.wrapping_add(number), ..options.clone() }
}
