//! `roost save`

use account::Request;
use account::door::{Append, NewMessage, Reply};
use clap::Args;
use model::MailboxName;
use serde_json::json;
use std::sync::Arc;
use store::spool::{Incoming, Spooled};

use super::about::About;
use super::choose::{find, open};
use super::exit::{Exit, Failure};
use super::output::Context;

/// Store the message on standard input in a mailbox
#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    #[arg(value_name = "USER")]
    user: String,
    /// Mailbox to store it in
    #[arg(short = 'm', long, value_name = "MAILBOX", default_value = "INBOX")]
    mailbox: String,
}

impl SaveArgs {
    pub(crate) fn about(&self) -> About<'_> {
        About::User(&self.user)
    }
}

pub(crate) async fn run(context: &mut Context, args: &SaveArgs) -> Result<Exit, Failure> {
    let mailbox = MailboxName::new(&args.mailbox);
    let mailbox = mailbox.map_err(|error| Failure::usage(format!("{}: {error}", args.mailbox)))?;
    let record = find(context, &args.user).await?;
    let one = open(context, record, false).await?;
    let body = Arc::new(receive(context).await?);
    let message = NewMessage { body, flags: Vec::new(), internal_date: None };
    let append = Append { mailbox: mailbox.clone(), create: false, messages: vec![message], delivery: None };
    let done = one.account.ask(Request::Append(append)).await?;
    let Reply::Appended { uid_validity, uids, .. } = done.reply else {
        return Err(Failure::new(Exit::Software, "the account answered another question"));
    };
    let uid = uids.first().map_or(0, |uid| uid.get());
    let text = format!("saved to {mailbox}, UID {uid}\n");
    let value = json!({ "mailbox": mailbox.as_str(), "uidvalidity": uid_validity.get(), "uid": uid });
    context.say(text, value).await
}

/// Takes standard input into the spool. Input that breaks off is not a message.
async fn receive(context: &mut Context) -> Result<Spooled, Failure> {
    let limit = context.running.config.limits.message_size.0;
    let mut incoming = context.running.services.spool.begin();
    let Some(input) = &mut context.input else {
        return Err(Failure::new(Exit::Data, "there is no standard input here"));
    };
    loop {
        let next = input.next().await;
        let Some(octets) = next.map_err(|error| Failure::try_again(format!("nothing was saved: {error}")))?
        else {
            break;
        };
        if incoming.size().saturating_add(octets.len() as u64) > limit {
            let message =
                format!("the message is larger than limits.message_size, {limit} bytes: nothing was saved");
            return Err(Failure::new(Exit::CannotCreate, message));
        }
        incoming = tokio::task::spawn_blocking(move || -> Result<Incoming, Failure> {
            incoming.write(&octets).map_err(spool_failed)?;
            Ok(incoming)
        })
        .await??;
    }
    if incoming.size() == 0 {
        return Err(Failure::new(Exit::Data, "there is no message on standard input"));
    }
    tokio::task::spawn_blocking(move || incoming.finish().map_err(spool_failed)).await?
}

fn spool_failed(error: nfs_compat::Error) -> Failure {
    let exit = if error.is_full() { Exit::CannotCreate } else { Exit::Disk };
    Failure::new(exit, format!("nothing was saved: {error}"))
}
