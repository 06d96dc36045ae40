//! Whom a command is about: one user, those of a pattern, or all.

use std::sync::Arc;

use auth::{UserName, UserRecord};
use clap::Args;
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::exit::{Exit, Failure};
use super::output::Context;
use super::wildcard;
use crate::registry::Account;
use crate::serve::Running;

/// Instead of USER.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Whom {
    /// All users, instead of USER
    #[arg(short = 'A', long = "all", display_order = 800)]
    all: bool,
    /// Users of a pattern such as '*@example.org', instead of USER
    #[arg(short = 'u', long = "user", value_name = "PATTERN", conflicts_with = "all", display_order = 801)]
    pattern: Option<String>,
}

/// Users, and what else was typed.
pub(crate) struct Chosen {
    pub(crate) users: Vec<UserRecord>,
    /// Several were asked for, even if there is one: what is printed says whose it is.
    pub(crate) many: bool,
    pub(crate) rest: Vec<String>,
}

/// Where USER may stand among the words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    First,
    FirstOrLast,
}

/// One user's open account.
#[derive(Clone)]
pub(crate) struct One {
    pub(crate) record: UserRecord,
    pub(crate) account: Arc<Account>,
    pub(crate) many: bool,
}

impl One {
    pub(crate) fn name(&self) -> &str {
        self.record.user.as_str()
    }

    /// `text`, after the user's name where there are several.
    pub(crate) fn line(&self, text: &str) -> String {
        if self.many { format!("{} {text}\n", self.name()) } else { format!("{text}\n") }
    }

    pub(crate) fn snapshot(&self) -> Result<Arc<account::Snapshot>, Failure> {
        self.account.snapshot().ok_or_else(|| Failure::try_again("the account was closed meanwhile"))
    }

    pub(crate) fn reader(&self) -> Result<account::reader::Reader, Failure> {
        self.account.reader().ok_or_else(|| Failure::try_again("the account was closed meanwhile"))
    }
}

impl Whom {
    pub(crate) fn is_given(&self) -> bool {
        self.all || self.pattern.is_some()
    }
}

/// Finds the users that were meant. Where the loop over many runs at another node, this is about one of them.
pub(crate) async fn choose(
    context: &Context,
    whom: &Whom,
    words: &[String],
    place: Place,
) -> Result<Chosen, Failure> {
    match context.one_of_many() {
        Some(user) => {
            Ok(Chosen { users: vec![find(context, user).await?], many: true, rest: words.to_vec() })
        }
        None => choose_in(&context.running, whom, words, place).await,
    }
}

/// The same without regard to who loops.
pub(super) async fn choose_in(
    context: &Running,
    whom: &Whom,
    words: &[String],
    place: Place,
) -> Result<Chosen, Failure> {
    if let Some(pattern) = whom.pattern.as_deref().filter(|pattern| !pattern.contains(['*', '?'])) {
        let users = vec![find_in(context, pattern).await?];
        return Ok(Chosen { users, many: false, rest: words.to_vec() });
    }
    if whom.is_given() {
        let pattern = whom.pattern.as_deref().unwrap_or("*").to_ascii_lowercase();
        let users = matching(context, &pattern).await?;
        return Ok(Chosen { users, many: true, rest: words.to_vec() });
    }
    let Some((first, rest)) = words.split_first() else {
        return Err(Failure::usage("name a USER, or -A for all, or -u PATTERN"));
    };
    match (find_in(context, first).await, rest.split_last()) {
        (Ok(user), _) => Ok(Chosen { users: vec![user], many: false, rest: rest.to_vec() }),
        (Err(failure), Some((last, _))) if place == Place::FirstOrLast && failure.exit == Exit::NoUser => {
            let user = find_in(context, last).await.map_err(|_| failure)?;
            Ok(Chosen { users: vec![user], many: false, rest: words[..words.len() - 1].to_vec() })
        }
        (Err(failure), _) => Err(failure),
    }
}

/// One user by name.
pub(crate) async fn find(context: &Context, user: &str) -> Result<UserRecord, Failure> {
    find_in(&context.running, user).await
}

pub(super) async fn find_in(running: &Running, user: &str) -> Result<UserRecord, Failure> {
    match running.services.auth.lookup(user).await {
        Ok(Some(record)) => Ok(record),
        Ok(None) => Err(Failure::no_user(user)),
        Err(unavailable) => Err(Failure::try_again(unavailable.to_string())),
    }
}

async fn matching(running: &Running, pattern: &str) -> Result<Vec<UserRecord>, Failure> {
    let names = running.services.auth.users().await;
    let mut names = names.map_err(|unavailable| Failure::try_again(unavailable.to_string()))?;
    names.retain(|name: &UserName| wildcard::matches(pattern, name.as_str()));
    let mut users = Vec::new();
    for name in names {
        // Who was removed since the list was read is no longer meant.
        match find_in(running, name.as_str()).await {
            Err(failure) if failure.exit == Exit::NoUser => {}
            found => users.push(found?),
        }
    }
    if users.is_empty() {
        return Err(Failure::new(Exit::NoUser, format!("no user is like {pattern}")));
    }
    Ok(users)
}

/// Opens an account.
pub(crate) async fn open(context: &Context, record: UserRecord, many: bool) -> Result<One, Failure> {
    let opened = context.running.services.open(&record).await;
    let account =
        opened.map_err(|reason| Failure::try_again(format!("{}: {reason}", record.user.as_str())))?;
    Ok(One { record, account, many })
}

/// What a command has to say about one user.
pub(crate) struct Told {
    pub(crate) text: String,
    pub(crate) value: Value,
}

/// Does the same for each user, and goes on where one fails; ends with the first failure's code.
pub(crate) async fn tell_each<'a>(
    context: &'a Context,
    chosen: Chosen,
    each: impl Fn(One) -> BoxFuture<'a, Result<Told, Failure>>,
) -> Result<Exit, Failure> {
    let many = chosen.many;
    let mut exit = Exit::Ok;
    let mut values = Map::new();
    for record in chosen.users {
        let user = record.user.as_str().to_owned();
        let told = match open(context, record, many).await {
            Ok(one) => each(one).await,
            Err(failure) => Err(failure),
        };
        match told {
            Ok(told) if context.json => drop(values.insert(user, told.value)),
            Ok(told) => context.out.print(told.text).await?,
            Err(failure) if !many => return Err(failure),
            Err(failure) => {
                let failure = Failure::new(failure.exit, format!("{user}: {failure}"));
                context.out.warn(&failure).await?;
                values.insert(user, json!({ "error": failure.message, "exit": failure.exit.code() }));
                exit = if exit == Exit::Ok { failure.exit } else { exit };
            }
        }
    }
    if context.json {
        let only = if many { None } else { values.values().next().cloned() };
        context.out.value(&only.unwrap_or(Value::Object(values))).await?;
    }
    Ok(exit)
}
