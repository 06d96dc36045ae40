//! `roost auth test`

use std::net::{IpAddr, Ipv4Addr};

use auth::{Facts, Outcome, Password};
use clap::{Args, Subcommand};
use serde_json::json;

use super::exit::{Exit, Failure};
use super::lock;
use super::output::Context;
use crate::router::Owner;
use crate::time;
use crate::users::account_id;

/// What failed logins are counted for: no client ever comes from there, so none is slowed down by a test.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Try a user's password; without PASSWORD it is asked for, or read from standard input
    Test(TestArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    #[arg(value_name = "USER")]
    pub(crate) user: String,
    #[arg(value_name = "PASSWORD")]
    pub(crate) password: Option<String>,
}

/// The same command with the password in it.
pub(crate) fn words(user: &str, password: String, json: bool) -> Vec<String> {
    let mut words = vec!["auth".to_owned(), "test".to_owned()];
    words.extend(json.then(|| "--json".to_owned()));
    words.extend(["--".to_owned(), user.to_owned(), password]);
    words
}

pub(crate) async fn test(context: &Context, args: &TestArgs) -> Result<Exit, Failure> {
    let Some(password) = &args.password else { return Err(Failure::usage("no password was given")) };
    let services = &context.running.services;
    let facts = Facts { service: "auth-test", remote: NOWHERE, tls: true };
    let password = Password::new(password.as_str());
    let checked = services.auth.login(&args.user, &password, &facts, time::now()).await;
    let record = match checked.outcome {
        Outcome::Ok(record) => record,
        Outcome::BadCredentials => {
            return Err(Failure::new(Exit::NotPermitted, "no such user, or another password"));
        }
        Outcome::Disabled => return Err(Failure::new(Exit::NotPermitted, "this user may not log in")),
        Outcome::PlaintextForbidden => {
            return Err(Failure::new(Exit::NotPermitted, "plaintext passwords are not allowed here"));
        }
        Outcome::TemporaryFailure(reason) => return Err(Failure::try_again(reason)),
    };
    let home = services.homes.home(&record).map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    let user = record.user.as_str();
    let owner = match services.router.owner(account_id(&record.user)) {
        Owner::Here => Some(context.running.config.node.id),
        Owner::Node(node) => Some(node),
        Owner::Nobody => None,
    };
    let lives = owner.map_or_else(
        || "no node owns the account now".to_owned(),
        |node| format!("the account is at {}", lock::node_name(&context.running, node)),
    );
    let text = format!("{user} may log in; home {}; {lives}\n", home.display());
    let home = home.to_string_lossy();
    context.say(text, json!({ "user": user, "home": home, "extra": record.extra, "owner": owner })).await
}
