//! `roost completions` and `roost man`: made from the same definitions that parse.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use nfs_compat::{DiskFs, Fs};

use super::definitions;
use super::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where roost.1, roost-serve.1 and the others go
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definitions(), "roost", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script)?;
    Ok(Exit::Ok)
}

pub(crate) fn pages(args: &ManArgs) -> Result<Exit, Failure> {
    let cannot = |error: nfs_compat::Error| Failure::new(Exit::CannotCreate, error.to_string());
    DiskFs::new().create_dir_all(&args.directory).map_err(cannot)?;
    let mut command = definitions();
    command.build();
    page(&command, "roost", &args.directory)
}

/// A page for the command, and one for each below it.
fn page(command: &Command, name: &str, directory: &Path) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    let named = command.clone().name(name.to_owned()).bin_name(name.replace('-', " "));
    Man::new(named).render(&mut text)?;
    let cannot = |error: nfs_compat::Error| Failure::new(Exit::CannotCreate, error.to_string());
    let published = nfs_compat::publish::publish(&DiskFs::new(), directory, &format!("{name}.1"), &text);
    published.map_err(cannot)?;
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help" && !inner.is_hide_set())
    {
        page(inner, &format!("{name}-{}", inner.get_name()), directory)?;
    }
    Ok(Exit::Ok)
}
