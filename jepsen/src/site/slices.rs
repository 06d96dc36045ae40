//! Many runs one after the other, with a line for each in a file that is kept.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use super::Report;

/// Adds the line of a run to a list.
pub fn record(list: &Path, report: &Report) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(list)?;
    writeln!(file, "{}", report.line())?;
    Ok(())
}
