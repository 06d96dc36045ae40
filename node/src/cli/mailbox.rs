//! `roost mailbox list|status|create|delete|rename|subscribe|unsubscribe`

use std::collections::BTreeSet;

use account::{MailboxView, Request};
use clap::{Args, Subcommand};
use futures::FutureExt as _;
use model::{MailboxName, SpecialUse};
use serde_json::{Map, Value, json};

use super::about::{About, Shape};
use super::choose::{Chosen, One, Place, Told, Whom, choose, tell_each};
use super::exit::{Exit, Failure};
use super::output::Context;
use super::query::is_mailbox;

const ITEMS: [&str; 9] = [
    "messages",
    "recent",
    "uidnext",
    "uidvalidity",
    "unseen",
    "highestmodseq",
    "vsize",
    "guid",
    "firstsaved",
];

#[derive(Debug, Subcommand)]
pub(crate) enum MailboxCommand {
    /// List mailboxes
    #[command(override_usage = "roost mailbox list [OPTIONS] <USER> [PATTERN]...")]
    List(ListArgs),
    /// Print counts of mailboxes: messages recent uidnext uidvalidity unseen highestmodseq vsize guid firstsaved
    #[command(override_usage = "roost mailbox status [OPTIONS] <USER> [ITEMS] [PATTERN]...")]
    Status(WordsArgs),
    /// Create mailboxes
    #[command(override_usage = "roost mailbox create [OPTIONS] <USER> <MAILBOX>...")]
    Create(CreateArgs),
    /// Delete mailboxes with the messages in them
    #[command(override_usage = "roost mailbox delete [OPTIONS] <USER> <MAILBOX>...")]
    Delete(WordsArgs),
    /// Rename a mailbox, with those below it
    #[command(override_usage = "roost mailbox rename [OPTIONS] <USER> <OLD> <NEW>")]
    Rename(WordsArgs),
    /// Subscribe to mailboxes
    #[command(override_usage = "roost mailbox subscribe [OPTIONS] <USER> <MAILBOX>...")]
    Subscribe(WordsArgs),
    /// End subscriptions to mailboxes
    #[command(override_usage = "roost mailbox unsubscribe [OPTIONS] <USER> <MAILBOX>...")]
    Unsubscribe(WordsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct WordsArgs {
    #[command(flatten)]
    whom: Whom,
    /// The user (who may also stand last), and what the usage line names
    #[arg(value_names = ["USER", "WORDS"], num_args = 0..)]
    words: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    words: WordsArgs,
    /// Subscribed ones only, whether there is such a mailbox or not
    #[arg(short = 's', long)]
    subscribed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    words: WordsArgs,
    /// Subscribe to them too
    #[arg(short = 's', long)]
    subscribe: bool,
    /// What they are for: All, Archive, Drafts, Flagged, Junk, Sent or Trash
    #[arg(long, value_name = "PURPOSE")]
    special_use: Option<String>,
}

impl MailboxCommand {
    pub(crate) fn about(&self) -> About<'_> {
        let WordsArgs { whom, words } = match self {
            Self::List(args) => &args.words,
            Self::Create(args) => &args.words,
            Self::Status(args)
            | Self::Delete(args)
            | Self::Rename(args)
            | Self::Subscribe(args)
            | Self::Unsubscribe(args) => args,
        };
        About::Chosen { whom, words, place: Place::FirstOrLast, shape: Shape::MapIfJson }
    }
}

pub(crate) async fn run(context: &Context, command: MailboxCommand) -> Result<Exit, Failure> {
    match command {
        MailboxCommand::List(args) => list(context, &args).await,
        MailboxCommand::Status(args) => status(context, &args).await,
        MailboxCommand::Create(args) => create(context, &args).await,
        MailboxCommand::Delete(args) => {
            let chosen = chosen(context, &args).await?;
            let delete = |name: &MailboxName| vec![Request::Delete { name: name.clone() }];
            change(context, chosen, "deleted", delete).await
        }
        MailboxCommand::Rename(args) => rename(context, &args).await,
        MailboxCommand::Subscribe(args) => subscribe(context, &args, true).await,
        MailboxCommand::Unsubscribe(args) => subscribe(context, &args, false).await,
    }
}

async fn chosen(context: &Context, args: &WordsArgs) -> Result<Chosen, Failure> {
    choose(context, &args.whom, &args.words, Place::FirstOrLast).await
}

async fn list(context: &Context, args: &ListArgs) -> Result<Exit, Failure> {
    let chosen = chosen(context, &args.words).await?;
    let (patterns, subscribed) = (chosen.rest.clone(), args.subscribed);
    tell_each(context, chosen, |one| {
        let patterns = patterns.clone();
        async move {
            let snapshot = one.snapshot()?;
            let names: BTreeSet<&MailboxName> = if subscribed {
                snapshot.subscriptions.iter().collect()
            } else {
                let real = snapshot.mailboxes.iter().filter(|(_, entry)| entry.view.is_some());
                real.map(|(name, _)| name).collect()
            };
            let names = names.into_iter().filter(|name| is_wanted(&patterns, name)).map(MailboxName::as_str);
            let names: Vec<_> = names.collect();
            let text = names.iter().map(|name| one.line(name)).collect();
            Ok(Told { text, value: json!(names) })
        }
        .boxed()
    })
    .await
}

fn is_wanted(patterns: &[String], name: &MailboxName) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| is_mailbox(pattern, name))
}

async fn status(context: &Context, args: &WordsArgs) -> Result<Exit, Failure> {
    let mut chosen = chosen(context, args).await?;
    let mut items: Vec<String> = ITEMS.map(str::to_owned).to_vec();
    if let Some(first) = chosen.rest.first() {
        let words: Vec<String> = first.split([' ', ',']).map(str::to_ascii_lowercase).collect();
        if words == ["all"] {
            chosen.rest.remove(0);
        } else if words.iter().all(|word| ITEMS.contains(&word.as_str())) {
            chosen.rest.remove(0);
            items = words;
        }
    }
    let patterns = chosen.rest.clone();
    tell_each(context, chosen, |one| {
        let (patterns, items) = (patterns.clone(), items.clone());
        async move { status_of(&one, &patterns, &items) }.boxed()
    })
    .await
}

fn status_of(one: &One, patterns: &[String], items: &[String]) -> Result<Told, Failure> {
    let snapshot = one.snapshot()?;
    for pattern in patterns.iter().filter(|pattern| !pattern.contains(['*', '%', '?'])) {
        let named = MailboxName::new(pattern).ok();
        let known =
            named.as_ref().and_then(|name| snapshot.by_name(name)).is_some_and(|entry| entry.view.is_some());
        if !known {
            return Err(Failure::no_mailbox(pattern));
        }
    }
    let (mut text, mut value) = (String::new(), Map::new());
    for (name, entry) in snapshot.mailboxes.iter().filter(|(name, _)| is_wanted(patterns, name)) {
        let Some(view) = &entry.view else { continue };
        let values: Map<String, Value> =
            items.iter().map(|item| (item.clone(), item_of(view, item))).collect();
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let pairs: Vec<_> = items.iter().map(|item| format!("{item}={}", plain(&values[item]))).collect();
        text.push_str(&one.line(&format!("{name} {}", pairs.join(" "))));
        value.insert(name.as_str().to_owned(), Value::Object(values));
    }
    Ok(Told { text, value: Value::Object(value) })
}

fn item_of(view: &MailboxView, item: &str) -> Value {
    match item {
        "messages" => json!(view.len()),
        "recent" => {
            let claimed = view.recent.load(std::sync::atomic::Ordering::Acquire);
            json!(view.iter().rev().take_while(|message| message.uid.get() > claimed).count())
        }
        "uidnext" => json!(view.uid_next.get()),
        "uidvalidity" => json!(view.uid_validity.get()),
        "unseen" => json!(view.unseen),
        "highestmodseq" => json!(view.highest_modseq.0),
        "vsize" => json!(view.size_bytes),
        "guid" => json!(view.id.to_string()),
        "firstsaved" => {
            view.iter().map(|message| message.save_date).min().map_or(json!("never"), |first| json!(first))
        }
        _ => Value::Null,
    }
}

async fn create(context: &Context, args: &CreateArgs) -> Result<Exit, Failure> {
    let purpose = |text: &String| {
        let known = SpecialUse::parse(&format!("\\{}", text.trim_start_matches('\\')));
        known.ok_or_else(|| Failure::usage(format!("{text} is no special use; see --help")))
    };
    let special_use = args.special_use.as_ref().map(purpose).transpose()?;
    let subscribe = args.subscribe;
    let chosen = chosen(context, &args.words).await?;
    change(context, chosen, "created", move |name| {
        let mut requests = vec![Request::Create { name: name.clone(), special_use }];
        requests.extend(subscribe.then(|| Request::Subscribe { name: name.clone(), on: true }));
        requests
    })
    .await
}

async fn subscribe(context: &Context, args: &WordsArgs, on: bool) -> Result<Exit, Failure> {
    let chosen = chosen(context, args).await?;
    let done = if on { "subscribed" } else { "unsubscribed" };
    change(context, chosen, done, move |name| vec![Request::Subscribe { name: name.clone(), on }]).await
}

/// The same for each mailbox that was named, until one fails.
async fn change(
    context: &Context,
    chosen: Chosen,
    done: &'static str,
    requests: impl Fn(&MailboxName) -> Vec<Request>,
) -> Result<Exit, Failure> {
    let names = names(&chosen.rest)?;
    if names.is_empty() {
        return Err(Failure::usage("name a MAILBOX"));
    }
    tell_each(context, chosen, |one| {
        let requests: Vec<_> = names.iter().flat_map(&requests).collect();
        let names: Vec<_> = names.iter().map(|name| name.as_str().to_owned()).collect();
        async move {
            for request in requests {
                one.account.ask(request).await?;
            }
            let text = names.iter().map(|name| one.line(&format!("{name} {done}"))).collect();
            Ok(Told { text, value: json!({ done: names }) })
        }
        .boxed()
    })
    .await
}

async fn rename(context: &Context, args: &WordsArgs) -> Result<Exit, Failure> {
    let chosen = chosen(context, args).await?;
    let names = names(&chosen.rest)?;
    let [from, to] = names.as_slice() else {
        return Err(Failure::usage("name the OLD and the NEW mailbox"));
    };
    tell_each(context, chosen, |one| {
        let (from, to) = (from.clone(), to.clone());
        async move {
            one.account.ask(Request::Rename { from: from.clone(), to: to.clone() }).await?;
            let text = one.line(&format!("{from} is {to} now"));
            Ok(Told { text, value: json!({ "from": from.as_str(), "to": to.as_str() }) })
        }
        .boxed()
    })
    .await
}

fn names(words: &[String]) -> Result<Vec<MailboxName>, Failure> {
    let name =
        |word: &String| MailboxName::new(word).map_err(|error| Failure::usage(format!("{word}: {error}")));
    words.iter().map(name).collect()
}
