//! `roost cluster pki`: a private CA for the nodes of a site, in plain files.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use nfs_compat::publish::publish_new;
use nfs_compat::{DiskFs, Fs};
use rpc::PeerIdentity;
use rpc::pki::{self, Pair, PkiError};
use serde_json::json;

use super::exit::{Exit, Failure, say};

const CA: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
/// Certificates and keys are small; more is not one.
const PEM_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum PkiCommand {
    /// Make a private CA for the nodes of a site: DIR/ca.pem and DIR/ca.key
    Init(InitArgs),
    /// Issue a node's certificate: S-N.pem and S-N.key
    Issue(IssueArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Directory of the CA; made if it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct IssueArgs {
    /// Directory of the CA, from `roost cluster pki init`
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Site of the node: its cluster.site
    #[arg(long, value_name = "S")]
    site: String,
    /// The node's id: its node.id
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    node: u8,
    /// Host name or IP address under which others reach it; may be given several times
    #[arg(long = "address", value_name = "HOST")]
    addresses: Vec<String>,
    /// Where to put the files [default: DIR]
    #[arg(long, value_name = "DIR2")]
    out: Option<PathBuf>,
}

pub(crate) fn run(command: &PkiCommand, json: bool) -> Result<Exit, Failure> {
    let fs = DiskFs::new();
    match command {
        PkiCommand::Init(args) => init(&fs, args, json),
        PkiCommand::Issue(args) => issue(&fs, args, json),
    }
}

fn init(fs: &dyn Fs, args: &InitArgs, json: bool) -> Result<Exit, Failure> {
    let directory = &args.directory;
    fs.create_dir_all(directory).map_err(|error| cannot_create(&error))?;
    let pair = pki::make_ca().map_err(|error| failure(&error))?;
    write(fs, directory, CA, CA_KEY, &pair)?;
    let (ca, key) = (directory.join(CA), directory.join(CA_KEY));
    if json {
        say(format_args!("{:#}", json!({ "ca": ca, "key": key })));
    } else {
        say(format_args!(
            "{}: for every node, as cluster.tls.ca\n{}: signs certificates of nodes; keep it away from them",
            ca.display(),
            key.display()
        ));
    }
    Ok(Exit::Ok)
}

fn issue(fs: &dyn Fs, args: &IssueArgs, json: bool) -> Result<Exit, Failure> {
    let ca = Pair {
        certificate: read(fs, &args.directory.join(CA))?,
        key: read(fs, &args.directory.join(CA_KEY))?,
    };
    let identity = PeerIdentity { site: args.site.clone(), node: args.node };
    let pair = pki::issue(&ca, &identity, &args.addresses).map_err(|error| failure(&error))?;
    let out = args.out.as_ref().unwrap_or(&args.directory);
    fs.create_dir_all(out).map_err(|error| cannot_create(&error))?;
    let name = |kind: &str| format!("{}-{}.{kind}", identity.site, identity.node);
    write(fs, out, &name("pem"), &name("key"), &pair)?;
    let (certificate, key) = (out.join(name("pem")), out.join(name("key")));
    if json {
        say(format_args!("{:#}", json!({ "certificate": certificate, "key": key })));
    } else {
        say(format_args!(
            "{}: cluster.tls.certificate of {identity}\n{}: its cluster.tls.key",
            certificate.display(),
            key.display()
        ));
    }
    Ok(Exit::Ok)
}

/// Both files, or a complaint that names the one that is there already. Keys come first: a certificate without its key
/// would be of no use, a key without a certificate is just a key.
fn write(fs: &dyn Fs, directory: &Path, certificate: &str, key: &str, pair: &Pair) -> Result<(), Failure> {
    for name in [certificate, key] {
        let path = directory.join(name);
        if fs.exists(&path).map_err(|error| cannot_create(&error))? {
            return Err(exists(&path));
        }
    }
    for (name, text) in [(key, &pair.key), (certificate, &pair.certificate)] {
        match publish_new(fs, directory, name, text.as_bytes()) {
            Err(error) if error.is_exists() => return Err(exists(&directory.join(name))),
            written => written.map_err(|error| cannot_create(&error))?,
        }
    }
    Ok(())
}

fn read(fs: &dyn Fs, path: &Path) -> Result<String, Failure> {
    let bytes = fs.read(path, PEM_BYTES_MAX).map_err(|error| {
        let advice =
            if error.is_not_found() { "; make a CA there with `roost cluster pki init`" } else { "" };
        Failure::new(Exit::Config, format!("{error}{advice}"))
    })?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::new(Exit::Config, format!("{} is no PEM file", path.display())))
}

fn exists(path: &Path) -> Failure {
    let advice = "is there already: nodes may depend on it; remove it yourself, or name another directory";
    Failure::new(Exit::CannotCreate, format!("{} {advice}", path.display()))
}

fn cannot_create(error: &nfs_compat::Error) -> Failure {
    Failure::new(Exit::CannotCreate, error.to_string())
}

fn failure(error: &PkiError) -> Failure {
    let exit = match error {
        PkiError::BadSite(_) | PkiError::BadNode | PkiError::BadAddress(_) => Exit::Usage,
        PkiError::BadKey(_) | PkiError::Mismatch(_) => Exit::Config,
        PkiError::Failed(_) => Exit::Software,
    };
    Failure::new(exit, error.to_string())
}
