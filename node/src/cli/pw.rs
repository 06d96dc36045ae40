//! `roost pw`

use auth::Scheme;
use auth::scheme;
use clap::Args;
use serde_json::json;

use super::exit::{Exit, Failure, say};
use super::prompt;

/// Hash a password, for a user database: {SCHEME}hash
#[derive(Debug, Args)]
pub(crate) struct PwArgs {
    /// Scheme; `-s list` lists them
    #[arg(short = 's', long, value_name = "SCHEME", default_value = "ARGON2ID")]
    scheme: String,
    /// Password; without it, it is asked for, or read from standard input
    #[arg(short = 'p', long, value_name = "PASSWORD")]
    password: Option<String>,
}

pub(crate) fn run(args: &PwArgs, json: bool) -> Result<Exit, Failure> {
    let names = || Scheme::all().map(Scheme::name).collect::<Vec<_>>();
    if args.scheme.eq_ignore_ascii_case("list") {
        if json {
            say(format_args!("{:#}", json!(names())));
        } else {
            say(format_args!("{}", names().join(" ")));
        }
        return Ok(Exit::Ok);
    }
    let Some(scheme) = Scheme::from_name(args.scheme.trim_matches(['{', '}'])) else {
        let advice = format!("there is no scheme {}; known are {}", args.scheme, names().join(", "));
        return Err(Failure::usage(advice));
    };
    let password = match &args.password {
        Some(password) => password.clone(),
        None => ask_twice()?,
    };
    let hash = scheme::hash(scheme, &password).map_err(|error| Failure::usage(error.to_string()))?;
    if json {
        say(format_args!("{:#}", json!({ "hash": hash })));
    } else {
        say(hash);
    }
    Ok(Exit::Ok)
}

/// On a terminal twice, because nobody sees what is typed.
fn ask_twice() -> Result<String, Failure> {
    use std::io::IsTerminal as _;
    let password = prompt::password("Password: ")?;
    if std::io::stdin().is_terminal() && prompt::password("Once more: ")? != password {
        return Err(Failure::usage("the two are not the same"));
    }
    Ok(password)
}
