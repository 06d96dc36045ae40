//! What README.md tells a stranger to type is typed here, and must work.
//!
//! Blocks fenced as `sh` are run. The demo is started in the background and waited for; `cargo xtask ci` is what calls
//! us; everything else is one script. Where README names the demo's directory, ours stands in its place: what others
//! left there, or run there now, is not ours.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const DEMO: &str = "cargo run --release -- demo";
const DEMO_DIR: &str = "/tmp/roost-demo";
const READY_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What the script needs beside the product.
const TOOLS: &[&str] = &["swaks", "curl", "python3"];

#[expect(clippy::disallowed_methods, reason = "a tool of the build, not of the product")]
pub(crate) fn run(root: &Path) -> Result<()> {
    let text = std::fs::read_to_string(root.join("README.md")).context("cannot read README.md")?;
    let lines = commands(&text);
    let demo =
        lines.iter().find(|line| line.starts_with(DEMO)).context("README.md does not start the demo")?;
    let script: Vec<&str> =
        lines.iter().map(String::as_str).filter(|line| !line.starts_with("cargo ")).collect();
    if let Some(missing) = TOOLS.iter().find(|tool| !has(tool)) {
        if std::env::var(crate::ci::REQUIRE).is_ok_and(|value| value == "require") {
            bail!("{missing} is missing");
        }
        println!("SKIPPED: the commands of README.md: there is no {missing}");
        return Ok(());
    }
    let directory = std::env::temp_dir().join(format!("roost-readme-{}", std::process::id()));
    let ours = |text: &str| text.replace(DEMO_DIR, &directory.display().to_string());
    let demo = format!("exec {}", ours(demo));
    let mut running = Running(Command::new("sh").args(["-c", &demo]).current_dir(root).spawn()?);
    running.wait_for(&directory.join("demo.json"))?;
    let script = ours(&script.join("\n"));
    let status = Command::new("sh").args(["-eux", "-c", &script]).current_dir(root).status()?;
    drop(running);
    std::fs::remove_dir_all(&directory).context("cannot remove the demo's directory")?;
    if !status.success() {
        bail!("a command of README.md failed ({status})");
    }
    Ok(())
}

/// Lines of all `sh` blocks; a line that ends with a backslash goes on in the next.
fn commands(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let (mut inside, mut goes_on) = (false, false);
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside && line == "```sh";
        } else if inside {
            let (part, more) = line.strip_suffix('\\').map_or((line, false), |part| (part, true));
            match lines.last_mut().filter(|_| goes_on) {
                Some(last) => last.push_str(part.trim_start()),
                None => lines.push(part.to_owned()),
            }
            goes_on = more;
        }
    }
    lines
}

fn has(tool: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool} >/dev/null")]).status();
    found.is_ok_and(|status| status.success())
}

/// Stops the demo as a person would, with Ctrl-C's gentler brother.
struct Running(Child);

impl Running {
    #[expect(clippy::disallowed_methods, reason = "waits for a process with a deadline")]
    fn wait_for(&mut self, file: &Path) -> Result<()> {
        let start = Instant::now();
        while !file.exists() {
            if let Some(status) = self.0.try_wait()? {
                bail!("the demo ended before it wrote {} ({status})", file.display());
            }
            if start.elapsed() > READY_WITHIN {
                bail!("the demo did not write {} within {READY_WITHIN:?}", file.display());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // If it cannot be asked, there is nothing to wait for.
        let asked = Command::new("kill").arg(self.0.id().to_string()).status();
        if asked.is_ok() {
            let _ = self.0.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_those_of_sh_blocks_with_continued_lines_joined() {
        let text = "x\n```sh\na \\\n  b\nc\n```\n```toml\nd\n```\n";
        assert_eq!(commands(text), ["a b", "c"]);
    }
}
