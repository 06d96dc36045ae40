//! `roost cluster`: who takes part, who leads, who owns how much, and how an operator changes it.

mod members;
mod moving;
mod status;

use clap::{Args, Subcommand};

use super::exit::{Exit, Failure};
use super::output::Context;

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Print the nodes of this site: address, role, session, what each owns; leader, term, log and lease
    ///
    /// Exits with 75 if there is no leader.
    Status,
    /// Let a node in: it catches up first, then it votes
    ///
    /// Start the node before, with all members of the site in its [[cluster.member]], itself among them. It waits until it
    /// is let in.
    Add(AddArgs),
    /// Let a node out for good: what it owns goes to the others first
    ///
    /// It comes back only with an empty node.state_dir, and after `roost cluster add`.
    Remove(RemoveArgs),
    /// Give everything that a node owns to the others, and nothing to it, until it is undrained
    ///
    /// For maintenance: when this ends, the node can be stopped, and no client notices.
    Drain(DrainArgs),
    /// Let a drained node own accounts again
    Undrain(NodeArgs),
    /// Make another node the leader
    TransferLeader(NodeArgs),
    /// Give the accounts of a user's bucket to a node, and say how long it took
    Move(MoveArgs),
    /// Say that all processes of a node that ran until now are dead, so that its accounts are taken over at once
    ///
    /// Evidence is: its machine was fenced or switched off by its hypervisor or power controller; its container is gone, says
    /// who ran it; its process was seen to have ended. A connection that was reset, a ping without answer and a node that does
    /// not respond are none: it may be cut off or stand still, and go on. Nothing that was acknowledged is lost if this is
    /// said wrongly, but clients at that node may be shown what is old for as long as its lease lasts. A node that is
    /// restarted says it of itself.
    DeclareDead(DeadArgs),
    /// Found the site's coordination anew from the mail tree, after all nodes have lost their node.state_dir
    ///
    /// On one node, of the configuration in --config FILE, with all nodes stopped. Reads every journal below mail.root;
    /// exits with 65 if one could not be read. Start this node and the others, with empty node.state_dirs, afterwards.
    Rebuild,
    /// Make certificates for the connections between nodes
    #[command(subcommand)]
    Pki(super::pki::PkiCommand),
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Its node.id
    #[arg(value_name = "NODE", value_parser = clap::value_parser!(u8).range(1..))]
    node: u8,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    of: NodeArgs,
    /// Its listen.peer, as the other nodes reach it [default: what [[cluster.member]] says]
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    of: NodeArgs,
    /// Do not wait until it owns nothing: its accounts pause until its lease is over
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    of: NodeArgs,
    /// Do not wait until it owns nothing
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    #[arg(value_name = "USER")]
    user: String,
    #[command(flatten)]
    of: NodeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DeadArgs {
    #[command(flatten)]
    of: NodeArgs,
    /// There is evidence of it
    #[arg(long, required = true)]
    yes_it_is_dead: bool,
}

pub(crate) async fn run(context: &Context, command: ClusterCommand) -> Result<Exit, Failure> {
    match command {
        ClusterCommand::Status => status::run(context).await,
        ClusterCommand::Add(args) => members::add(context, &args).await,
        ClusterCommand::Remove(args) => members::remove(context, &args).await,
        ClusterCommand::Drain(args) => members::drain(context, &args).await,
        ClusterCommand::Undrain(args) => members::undrain(context, args.node).await,
        ClusterCommand::TransferLeader(args) => members::transfer_leader(context, args.node).await,
        ClusterCommand::Move(args) => moving::run(context, &args).await,
        ClusterCommand::DeclareDead(args) => members::declare_dead(context, args.of.node).await,
        ClusterCommand::Rebuild | ClusterCommand::Pki(_) => {
            Err(Failure::usage("this command does not run inside a node"))
        }
    }
}
