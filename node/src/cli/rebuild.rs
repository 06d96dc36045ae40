//! `roost cluster rebuild`

use serde_json::json;

use super::Globals;
use super::exit::{Exit, Failure, complain, say};
use crate::serve::load_config;

pub(crate) fn run(globals: &Globals, as_json: bool) -> Result<Exit, Failure> {
    let config = load_config(&globals.config_file())
        .map_err(|mistakes| Failure::new(Exit::Config, mistakes.join("\n")))?;
    let mut tell = |line: String| complain(line);
    let rebuilt = crate::rebuild::run(&config, &mut tell)
        .map_err(|error| Failure::new(Exit::Software, format!("{error:#}")))?;
    for (home, why) in &rebuilt.skipped {
        complain(format_args!("skipped {}: {why}", home.display()));
    }
    let skipped = rebuilt.skipped.len();
    if as_json {
        say(json!({
            "incarnation": rebuilt.incarnation, "accounts": rebuilt.accounts, "empty": rebuilt.empty,
            "skipped": rebuilt.skipped.iter().map(|(home, why)| json!({ "home": home, "why": why })).collect::<Vec<_>>(),
        }));
    } else {
        say(format_args!(
            "rebuilt from {} accounts, {} of them empty, {skipped} skipped",
            rebuilt.accounts, rebuilt.empty
        ));
        say(if rebuilt.others.is_empty() {
            "now start this node: `roost serve`".to_owned()
        } else {
            format!(
                "now start this node, and with empty state_dirs the nodes {:?}: they follow it as soon as they are a majority",
                rebuilt.others
            )
        });
    }
    Ok(if skipped > 0 { Exit::Data } else { Exit::Ok })
}
