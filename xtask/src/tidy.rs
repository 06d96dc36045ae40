//! Style that a program can hold: sizes, headers, and what must not be committed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Past this a file has a second subject.
const FILE_LINES_MAX: usize = 800;
/// A function fits a screen or two; past this it is taken apart.
const FUNCTION_LINES_MAX: usize = 100;

pub(crate) fn run(root: &Path) -> Result<()> {
    let mut complaints = Vec::new();
    let files = tracked(root)?;
    for file in &files {
        let Ok(text) = read(&root.join(file)) else { continue };
        if file.ends_with(".rs") {
            rust(file, &text, &mut complaints);
        }
        words(file, &text, &mut complaints);
    }
    if !complaints.is_empty() {
        bail!("{} to mend:\n  {}", complaints.len(), complaints.join("\n  "));
    }
    println!("{} files are tidy", files.len());
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a tool of the build, not of the product")]
fn read(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

fn tracked(root: &Path) -> Result<Vec<String>> {
    let output =
        Command::new("git").args(["ls-files"]).current_dir(root).output().context("cannot run git")?;
    let list = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    Ok(list.lines().map(str::to_owned).collect())
}

fn rust(file: &str, text: &str, complaints: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        complaints.push(format!("{file}: {lines} lines; find the second subject (at most {FILE_LINES_MAX})"));
    }
    let is_test = file.contains("/tests/") || file.ends_with("/tests.rs");
    if !is_test && !text.trim_start().starts_with("//!") {
        complaints.push(format!("{file}: no header that says what it owns"));
    }
    functions(file, text, complaints);
}

/// Functions by indentation, which rustfmt keeps: from `fn` to the closing brace in the same column.
fn functions(file: &str, text: &str, complaints: &mut Vec<String>) {
    let mut open: Option<(usize, usize, &str)> = None;
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let code = line.trim_start();
        match open {
            Some((start, column, name)) if indent == column && code.starts_with('}') => {
                let length = number - start + 1;
                if length > FUNCTION_LINES_MAX {
                    let at = start + 1;
                    complaints.push(format!(
                        "{file}:{at}: fn {name} has {length} lines (at most {FUNCTION_LINES_MAX})"
                    ));
                }
                open = None;
            }
            Some(_) => {}
            None => {
                open = function_name(code)
                    .filter(|_| !code.ends_with(['}', ';']))
                    .map(|name| (number, indent, name))
            }
        }
    }
}

fn function_name(code: &str) -> Option<&str> {
    let mut rest = code;
    for word in ["pub ", "pub(crate) ", "pub(super) ", "async ", "const "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    name.split(['(', '<']).next()
}

/// Marks of unfinished work, and paths of one machine.
fn words(file: &str, text: &str, complaints: &mut Vec<String>) {
    // Written so that this file does not name them itself.
    let forbidden = [["TO", "DO"], ["FIX", "ME"], ["X", "XX"], ["/wo", "rk/"], ["/fa", "rm/"], ["dbg", "!("]];
    let forbidden = forbidden.map(|halves| halves.concat());
    if file.ends_with(".lock") || file.contains("/corpus/") {
        return;
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(word) = forbidden.iter().find(|word| line.contains(word.as_str())) {
            complaints.push(format!("{file}:{}: `{word}` must not be committed", number + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_is_too_long_is_named() {
        let body = "    let x = 1;\n".repeat(FUNCTION_LINES_MAX);
        let mut complaints = Vec::new();
        functions(
            "f.rs",
            &format!("pub fn long(a: u8) {{\n{body}}}\n\nfn short() {{\n}}\n"),
            &mut complaints,
        );
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("f.rs:1: fn long"));
    }

    #[test]
    fn a_file_without_a_header_is_named_unless_it_is_a_test() {
        let mut complaints = Vec::new();
        rust("a/src/b.rs", "use x;\n", &mut complaints);
        rust("a/tests/b.rs", "use x;\n", &mut complaints);
        assert_eq!(complaints.len(), 1);
    }
}
