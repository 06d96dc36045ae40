//! `roost dump`

use account::MessageView;
use account::dump::dump;
use clap::Args;
use serde_json::json;
use session::pop3::UidlFormat;

use super::about::{About, Shape};
use super::choose::{Place, Whom, choose, open};
use super::exit::{Exit, Failure};
use super::output::Context;

/// Print a whole account as JSON: mailboxes, messages, flags and the SHA-256 of each body
#[derive(Debug, Args)]
#[command(override_usage = "roost dump [OPTIONS] <USER>\n       roost dump [OPTIONS] -A")]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    whom: Whom,
    #[arg(value_name = "USER", required_unless_present_any = ["all", "pattern"])]
    user: Option<String>,
}

impl DumpArgs {
    pub(crate) fn about(&self) -> About<'_> {
        let words = self.user.as_slice();
        About::Chosen { whom: &self.whom, words, place: Place::First, shape: Shape::Map }
    }
}

pub(crate) async fn run(context: &Context, args: &DumpArgs) -> Result<Exit, Failure> {
    let words: Vec<String> = args.user.iter().cloned().collect();
    let chosen = choose(context, &args.whom, &words, Place::First).await?;
    let (many, total) = (chosen.many, chosen.users.len() as u64);
    let mut exit = Exit::Ok;
    let mut separator = "{";
    for (done, record) in chosen.users.into_iter().enumerate() {
        let user = record.user.as_str().to_owned();
        let dumped = match open(context, record, many).await {
            Ok(one) => {
                let (snapshot, reader) = (one.snapshot()?, one.reader()?);
                let format = UidlFormat::read(&context.running.config.quirks.pop3_uidl_format);
                let uidl = move |validity, message: &MessageView| format.uidl(validity, message);
                let task = move || serde_json::to_string_pretty(&dump(&snapshot, &reader, uidl));
                let text = tokio::task::spawn_blocking(task).await?;
                text.map_err(|error| Failure::new(Exit::Software, error.to_string()))
            }
            Err(failure) => Err(failure),
        };
        match dumped {
            Ok(text) if many => {
                context.out.print(format!("{separator}\n{}: {text}", json!(user))).await?;
                separator = ",";
                context.out.progress(done as u64 + 1, total, "accounts", "dump").await?;
            }
            Ok(text) => context.out.print(format!("{text}\n")).await?,
            Err(failure) if many => {
                context.out.warn(&Failure::new(failure.exit, format!("{user}: {failure}"))).await?;
                exit = failure.exit;
            }
            Err(failure) => return Err(failure),
        }
    }
    if many {
        context.out.print(if separator == "{" { "{}\n" } else { "\n}\n" }).await?;
    }
    Ok(exit)
}
