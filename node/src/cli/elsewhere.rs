//! Commands about accounts that other nodes own are carried there; loops over many users go from node to node.
//!
//! Invariants
//! - A command about an account runs at the node that says it owns it, and at no other.
//! - What was declined was not begun, and took no input: it is tried where the account is then.
//! - What many turns print as JSON is one value.

use std::time::{Duration, Instant};

use auth::UserRecord;
use futures::future::BoxFuture;
use rpc::admin::{self, Call, Captured, Carried, CarryError, Declined, Event, Replies, captured};

use super::about::About;
use super::choose::Chosen;
use super::exit::{Exit, Failure};
use super::output::{Context, Output};
use super::pieces::Pieces;
use super::{Cli, Command, dispatch};
use crate::router::{ADMIT_WAIT, NOT_OWNER_MAX, Owner, Place, unknown_node};
use crate::serve::Running;
use crate::time;
use crate::users::account_id;

/// How long a command waits for an account to have an owner that can be reached: a node that died is replaced by then.
const OWNER_WAIT: Duration = Duration::from_secs(15);
/// Before a node is asked again that does not know yet what it owns.
const BEHIND_WAIT: Duration = Duration::from_millis(50);
/// Other nodes tell their part of something within.
const PART_WAIT: Duration = Duration::from_secs(3);

/// Runs a command where the accounts are that it is about.
pub(crate) fn run(context: Context, command: Command) -> BoxFuture<'static, Result<Exit, Failure>> {
    Box::pin(run_there(context, command))
}

async fn run_there(mut context: Context, command: Command) -> Result<Exit, Failure> {
    // What was carried here was found to be ours when it was admitted.
    if context.carried.is_some() {
        return dispatch(&mut context, command).await;
    }
    let about = command.about();
    let Some(chosen) = about.find(&context.running).await? else {
        return dispatch(&mut context, command).await;
    };
    let router = &context.running.services.router;
    if chosen.users.iter().all(|record| router.owner(account_id(&record.user)) == Owner::Here) {
        return dispatch(&mut context, command).await;
    }
    let brackets = match about {
        About::Chosen { shape, .. } => shape.brackets(context.json),
        About::Nobody | About::User(_) => None,
    };
    if chosen.many {
        return each(&context, chosen, brackets).await;
    }
    match chosen.users.first() {
        Some(record) => one(context, &record.clone(), command).await,
        None => dispatch(&mut context, command).await,
    }
}

/// Whether the account of a command that was carried here is ours.
pub(crate) async fn admit(running: &Running, command: &Command, carried: &Carried) -> Result<(), Declined> {
    let unavailable = |failure: Failure| Declined::Unavailable(failure.message);
    let record = match (&carried.user, command.about()) {
        (_, About::Nobody) if command.has_parts() => return Ok(()),
        (_, About::Nobody) => {
            return Err(Declined::Unavailable("this command is for the node where it is typed".into()));
        }
        (Some(user), _) => super::choose::find_in(running, user).await.map_err(unavailable)?,
        (None, about) => {
            let chosen = about.find(running).await.map_err(unavailable)?;
            let mut users = chosen.map(|chosen| chosen.users).unwrap_or_default();
            match (users.pop(), users.is_empty()) {
                (Some(user), true) => user,
                (Some(_) | None, _) => {
                    return Err(Declined::Unavailable("this command is not about one user".into()));
                }
            }
        }
    };
    let router = &running.services.router;
    let version = *router.version().borrow();
    match router.owner(account_id(&record.user)) {
        Owner::Here => Ok(()),
        Owner::Node(_) | Owner::Nobody => Err(Declined::NotOwner(version)),
    }
}

/// A command about one account.
async fn one(mut context: Context, record: &UserRecord, command: Command) -> Result<Exit, Failure> {
    let call = Call { arguments: context.words.clone(), carried: Some(Carried::default()) };
    match begin(&context.running, record, &call).await? {
        Begun::Here => dispatch(&mut context, command).await,
        Begun::At(node, begun) => {
            let replies = begun.run(context.input.take());
            follow(node, replies, &mut Hearing::All(&context.out)).await
        }
    }
}

/// Where a command was admitted.
enum Begun {
    Here,
    At(u8, Box<admin::Begun>),
}

/// Asks the owner of an account, wherever that is by then.
async fn begin(running: &Running, record: &UserRecord, call: &Call) -> Result<Begun, Failure> {
    let (router, account) = (&running.services.router, account_id(&record.user));
    let user = record.user.as_str();
    let until: Instant = time::now() + OWNER_WAIT;
    let mut not_owners = 0;
    loop {
        let place = router.place(account, until).await;
        let node = match place.map_err(|why| Failure::try_again(format!("{user}: {why}")))? {
            Place::Here => return Ok(Begun::Here),
            Place::Node(node) => node,
        };
        let begun = match router.channel(node) {
            Some(channel) => admin::begin(channel, call, ADMIT_WAIT).await,
            None => Err(CarryError::Unreachable(unknown_node(node))),
        };
        let failed = |why: &dyn std::fmt::Display| {
            Failure::try_again(format!("{user}: node {node} owns this account, and {why}"))
        };
        match begun {
            Ok(begun) => return Ok(Begun::At(node, Box::new(begun))),
            Err(CarryError::Declined(Declined::NotOwner(version))) => {
                router.count_retry("not_owner");
                // Whoever is given a bucket may be the last to hear of it; then nothing is learnt but patience.
                let behind = *router.version().borrow() > version;
                not_owners += u32::from(!behind);
                if not_owners > NOT_OWNER_MAX || time::now() >= until {
                    return Err(failed(&"says that it does not"));
                }
                if behind {
                    tokio::time::sleep(BEHIND_WAIT).await;
                }
                router.learn(version).await;
            }
            Err(CarryError::Declined(Declined::Unavailable(why))) => {
                return Err(Failure::try_again(format!("node {node}: {why}")));
            }
            Err(error @ CarryError::Refused(_)) => return Err(failed(&error)),
            Err(error @ CarryError::Unreachable(_)) => {
                router.count_retry("unreachable");
                if !router.look_again(until).await {
                    return Err(failed(&error));
                }
            }
        }
    }
}

/// What becomes of what a command says somewhere else.
enum Hearing<'a> {
    /// It is said here as it is.
    All(&'a Output),
    /// It is one turn of a loop.
    Turn { out: &'a Output, pieces: Option<&'a mut Pieces>, printed: &'a mut bool },
}

impl Hearing<'_> {
    fn out(&self) -> &Output {
        match self {
            Self::All(out) | Self::Turn { out, .. } => out,
        }
    }

    async fn hear(&mut self, event: Event) -> Result<(), Failure> {
        match (self, event) {
            (Self::All(out), event) => out.repeat(event).await,
            (Self::Turn { out, pieces, printed }, Event::Stdout(bytes)) => {
                **printed |= !bytes.is_empty();
                match pieces {
                    Some(pieces) => out.print(pieces.take(&bytes)).await,
                    None => out.print(bytes).await,
                }
            }
            (Self::Turn { out, .. }, event @ Event::Stderr(_)) => out.repeat(event).await,
            // The loop says how far it is.
            (Self::Turn { .. }, Event::Progress(_) | Event::Finished(_)) => Ok(()),
        }
    }
}

/// Hears a command that runs elsewhere to its end.
async fn follow(node: u8, mut replies: Replies, hearing: &mut Hearing<'_>) -> Result<Exit, Failure> {
    loop {
        let event = tokio::select! {
            event = replies.next() => event,
            () = hearing.out().hung_up() => return Err(rpc::admin::HungUp.into()),
        };
        let event = event.map_err(|error| Failure::try_again(format!("node {node}: {error}")))?;
        match event {
            Some(Event::Finished(code)) => return Exit::from_code(code),
            Some(event) => hearing.hear(event).await?,
            None => return Err(Failure::try_again(format!("node {node} ended without a word"))),
        }
    }
}

/// A command about many accounts: a turn for each, where it is.
async fn each(context: &Context, chosen: Chosen, brackets: Option<(char, char)>) -> Result<Exit, Failure> {
    let mut pieces = brackets.map(|(open, close)| Pieces::new(open, close));
    let (mut exit, total) = (Exit::Ok, chosen.users.len() as u64);
    let mut printed = false;
    for (done, record) in (1..).zip(chosen.users) {
        let user = record.user.as_str().to_owned();
        let carried = Carried { user: Some(user.clone()), continued: printed };
        let turn = turn(context, &record, carried, pieces.as_mut(), &mut printed).await;
        if let Some(pieces) = &mut pieces {
            pieces.turn_ended();
        }
        let ended = match turn {
            // What is wrong with the words is wrong for everybody.
            Ok(Exit::Usage) => return Ok(Exit::Usage),
            Err(failure) if failure.exit == Exit::Usage => return Err(failure),
            Ok(ended) => ended,
            Err(failure) => {
                context.out.warn(&failure).await?;
                if let Some(pieces) = &mut pieces
                    && let Some(text) = pieces.failed(&user, &failure)
                {
                    context.out.print(text).await?;
                }
                failure.exit
            }
        };
        exit = if exit == Exit::Ok { ended } else { exit };
        context.out.progress(done, total, "accounts", "all users").await?;
    }
    if let Some(pieces) = pieces {
        context.out.print(pieces.end()).await?;
    }
    Ok(exit)
}

async fn turn(
    context: &Context,
    record: &UserRecord,
    carried: Carried,
    pieces: Option<&mut Pieces>,
    printed: &mut bool,
) -> Result<Exit, Failure> {
    let call = Call { arguments: context.words.clone(), carried: Some(carried.clone()) };
    let mut hearing = Hearing::Turn { out: &context.out, pieces, printed };
    match begin(&context.running, record, &call).await? {
        Begun::At(node, begun) => follow(node, begun.run(None), &mut hearing).await,
        Begun::Here => {
            let (events, said) = captured();
            let here = here(context, carried, Output::new(events));
            let (ended, heard) = tokio::join!(here, listen(said, &mut hearing));
            heard.and(ended)
        }
    }
}

/// One turn at this node.
async fn here(context: &Context, carried: Carried, out: Output) -> Result<Exit, Failure> {
    let cli = Cli::of_words(&context.words)?;
    let mut turn = Context {
        running: std::sync::Arc::clone(&context.running),
        out,
        input: None,
        json: context.json,
        words: context.words.clone(),
        carried: Some(carried),
    };
    // Boxed: a turn of a loop may not contain itself.
    Box::pin(dispatch(&mut turn, cli.command)).await
}

async fn listen(mut said: Captured, hearing: &mut Hearing<'_>) -> Result<(), Failure> {
    while let Some(event) = said.next().await {
        hearing.hear(event).await?;
    }
    Ok(())
}

/// What another node said to something that every node has a part of.
pub(crate) struct Part {
    pub(crate) node: u8,
    pub(crate) said: Result<serde_json::Value, String>,
}

/// Asks one other node for its part.
pub(crate) async fn part(context: &Context, node: u8, words: &[&str]) -> Result<serde_json::Value, String> {
    let channel = context.running.services.router.channel(node).ok_or_else(|| unknown_node(node))?;
    let call = part_call(words);
    let late = |_| format!("no answer within {} s", PART_WAIT.as_secs());
    tokio::time::timeout(PART_WAIT, part_of(channel, &call)).await.map_err(late)?
}

fn part_call(words: &[&str]) -> Call {
    let arguments = words.iter().map(|word| (*word).to_owned()).collect();
    Call { arguments, carried: Some(Carried::default()) }
}

/// Asks all other nodes of the site at once, each for its part. `words` make it print JSON.
pub(crate) async fn parts(context: &Context, words: &[&str]) -> Vec<Part> {
    let locking = &context.running.locking;
    let me = locking.status().node_id;
    let others = locking.nodes().into_iter().map(|node| node.id.0).filter(|node| *node != me);
    let others: Vec<u8> =
        others.filter(|node| context.running.services.router.channel(*node).is_some()).collect();
    let asked =
        others.into_iter().map(|node| async move { Part { node, said: part(context, node, words).await } });
    futures::future::join_all(asked).await
}

async fn part_of(channel: rpc::peer::Channel, call: &Call) -> Result<serde_json::Value, String> {
    let begun = admin::begin(channel, call, PART_WAIT).await.map_err(|error| match error {
        CarryError::Declined(Declined::Unavailable(why)) => why,
        CarryError::Declined(Declined::NotOwner(_)) | CarryError::Unreachable(_) | CarryError::Refused(_) => {
            error.to_string()
        }
    })?;
    let mut replies = begun.run(None);
    let (mut text, mut wrong) = (Vec::new(), String::new());
    while let Some(event) = replies.next().await.map_err(|error| error.to_string())? {
        match event {
            Event::Stdout(bytes) => text.extend_from_slice(&bytes),
            Event::Stderr(bytes) => wrong.push_str(&String::from_utf8_lossy(&bytes)),
            Event::Progress(_) | Event::Finished(_) => {}
        }
        if text.len() > PART_BYTES_MAX {
            return Err(format!("it said more than {PART_BYTES_MAX} bytes"));
        }
    }
    serde_json::from_slice(&text).map_err(|_| wrong.trim().trim_start_matches("roost: ").to_owned())
}

/// A node's sessions may be many.
const PART_BYTES_MAX: usize = 64 << 20;
