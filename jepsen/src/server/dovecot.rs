//! Dovecot, as an unprivileged user on loopback: the server that shows whether our tests are right.

use std::fs;

use super::{Server, unprivileged};

pub(super) const BINARY: &str = "/usr/sbin/dovecot";

pub(super) fn configure(server: &Server) -> anyhow::Result<()> {
    let users = server.write_users()?;
    let run = server.dir().join("state");
    fs::create_dir_all(server.dir().join("mail"))?;
    let runner = match unprivileged()? {
        Some(owner) => nix::unistd::User::from_uid(owner.uid)?,
        None => nix::unistd::User::from_uid(nix::unistd::Uid::effective())?,
    };
    let runner = runner.map_or_else(|| "nobody".to_owned(), |user| user.name);
    let group = match unprivileged()? {
        Some(owner) => nix::unistd::Group::from_gid(owner.gid)?,
        None => nix::unistd::Group::from_gid(nix::unistd::Gid::effective())?,
    };
    let group = group.map_or_else(|| "nogroup".to_owned(), |group| group.name);
    let ports = server.ports();
    let config = format!(
        "base_dir = {run}\nstate_dir = {run}\nprotocols = imap pop3 lmtp\nlog_path = /dev/stderr\nssl = no\n\
         default_internal_user = {runner}\ndefault_login_user = {runner}\ndefault_internal_group = {group}\n\
         first_valid_uid = 1\nfirst_valid_gid = 1\nlisten = 127.0.0.1\ndisable_plaintext_auth = no\n\
         mail_max_userip_connections = 0\nlmtp_save_to_detail_mailbox = no\nrecipient_delimiter = +\n\
         mail_location = maildir:{mail}/%d/%n\nmail_fsync = always\nauth_failure_delay = 0\n\
         passdb {{\n  driver = passwd-file\n  args = {users}\n}}\n\
         userdb {{\n  driver = static\n  args = home={mail}/%d/%n\n}}\n\
         namespace inbox {{\n  inbox = yes\n  separator = /\n}}\n\
         protocol lmtp {{\n  postmaster_address = postmaster@example.org\n  auth_username_format = %u\n}}\n\
         service anvil {{\n  chroot =\n}}\nservice imap-login {{\n  chroot =\n  service_count = 0\n  client_limit = 2000\n\
         \x20 inet_listener imap {{\n    port = {imap}\n  }}\n  inet_listener imaps {{\n    port = 0\n  }}\n}}\n\
         service pop3-login {{\n  chroot =\n  inet_listener pop3 {{\n    port = {pop3}\n  }}\n\
         \x20 inet_listener pop3s {{\n    port = 0\n  }}\n}}\n\
         service lmtp {{\n  inet_listener lmtp {{\n    address = 127.0.0.1\n    port = {lmtp}\n  }}\n}}\n\
         service stats {{\n  chroot =\n}}\n",
        run = run.display(),
        mail = server.mail_root().display(),
        users = users.display(),
        imap = ports.imap.port(),
        pop3 = ports.pop3.port(),
        lmtp = ports.lmtp.port(),
    );
    server.write("dovecot.conf", &config)?;
    Ok(())
}

pub(super) fn command(server: &Server) -> (String, Vec<String>) {
    let config = server.config_path().display().to_string();
    (BINARY.to_owned(), vec!["-F".to_owned(), "-c".to_owned(), config])
}
