//! No dependency of the binary or its tests may ask for more than to be named: permissive licences only.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Any of these alone is enough.
const PERMISSIVE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

pub(crate) fn run(root: &Path) -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata said no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata named no packages")?;
    let mut bad = Vec::new();
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("none");
        if !is_permissive(licence) {
            bad.push(format!("{} {}: {licence}", package["name"], package["version"]));
        }
    }
    if !bad.is_empty() {
        bail!("licences that are not on the list:\n  {}", bad.join("\n  "));
    }
    println!("{} packages, all under permissive licences", packages.len());
    Ok(())
}

/// Reads the part of SPDX that crates use: OR between alternatives, AND within one, parentheses, and the older `/`.
fn is_permissive(expression: &str) -> bool {
    let expression = expression.trim();
    if let Some(parts) = split(expression, " OR ") {
        return parts.iter().any(|part| is_permissive(part));
    }
    if let Some(parts) = split(expression, " AND ") {
        return parts.iter().all(|part| is_permissive(part));
    }
    if let Some(parts) = split(expression, "/") {
        return parts.iter().any(|part| is_permissive(part));
    }
    match expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inner) => is_permissive(inner),
        None => PERMISSIVE.contains(&expression),
    }
}

/// Splits at `separator` outside parentheses; `None` if it is not there.
fn split<'a>(expression: &'a str, separator: &str) -> Option<Vec<&'a str>> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0i32, 0);
    for (at, character) in expression.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && at >= start && expression[at..].starts_with(separator) => {
                parts.push(&expression[start..at]);
                start = at + separator.len();
            }
            _ => {}
        }
    }
    if parts.is_empty() {
        return None;
    }
    parts.push(&expression[start..]);
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_permissive_alternative_is_enough_and_every_condition_counts() {
        assert!(is_permissive("MIT OR Apache-2.0"));
        assert!(is_permissive("Unlicense/MIT"));
        assert!(is_permissive("(MIT OR GPL-3.0) AND Unicode-3.0"));
        assert!(is_permissive("GPL-3.0-only OR MIT"));
        assert!(!is_permissive("MIT AND GPL-3.0-only"));
        assert!(!is_permissive("AGPL-3.0-only"));
        assert!(!is_permissive("MPL-2.0"));
        assert!(!is_permissive("none"));
    }
}
