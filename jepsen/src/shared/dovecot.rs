//! Two Dovecots, as Debian has them, in two guests that mount one export.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use super::{Options, System};
use crate::client::imap::Imap;
use crate::lab::{Lab, MOUNTED, Running};
use crate::server::{password, user};
use crate::wait;

const UP_WITHIN: Duration = Duration::from_secs(60);
const BINARY: &str = "/usr/sbin/dovecot";
/// <https://doc.dovecot.org/2.3/configuration_manual/nfs/>
const ADVISED: &str =
    "mmap_disable = yes\nmail_fsync = always\nmail_nfs_storage = yes\nmail_nfs_index = yes\n";

pub(super) struct Dovecots {
    running: Vec<Running>,
    lab: Lab,
    dir: TempDir,
}

impl Dovecots {
    pub(super) fn start(options: &Options, system: System) -> anyhow::Result<Self> {
        anyhow::ensure!(
            Path::new(BINARY).exists(),
            "no Dovecot here: install dovecot-imapd and dovecot-lmtpd"
        );
        let dir = tempfile::Builder::new().prefix("jepsen-shared-").tempdir()?;
        let (lab, _network) = Lab::make(2, options.vers, dir.path(), vec![dir.path().to_owned()])?;
        lab.server().shell("mkdir -p /srv/export/mail && chown nobody /srv/export/mail", UP_WITHIN)?;
        let users: String = (0..options.accounts)
            .map(|account| format!("{}:{{PLAIN}}{}::::::\n", user(account), password(account)))
            .collect();
        fs::write(dir.path().join("users"), users)?;
        fs::write(dir.path().join("dovecot.conf"), config(dir.path(), system))?;
        // Its processes are not root, and read these.
        crate::hosts::tool("chmod", ["-R".as_ref(), "a+rX".as_ref(), dir.path().as_os_str()])?;
        let mut dovecots = Self { running: Vec::new(), lab, dir };
        for client in [1, 2] {
            let words = [BINARY, "-F", "-c", &dovecots.path("dovecot.conf")].map(str::to_owned);
            let guest = dovecots.lab.client(client)?;
            let running = guest.start(&words, Path::new("/run"), &format!("a{client}.log"))?;
            dovecots.running.push(running);
        }
        for address in dovecots.addresses()? {
            let at = (address, super::load::IMAP).into();
            let mut last = None;
            let up = wait::until(UP_WITHIN, || {
                let login = Imap::login(at, &user(0), &password(0), UP_WITHIN);
                login.and_then(Imap::logout).map_err(|error| last = Some(error)).ok()
            });
            up.with_context(|| format!("Dovecot does not serve: {last:?}\n{}", dovecots.log()))?;
        }
        Ok(dovecots)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub(super) fn addresses(&self) -> anyhow::Result<[Ipv4Addr; 2]> {
        Ok([self.lab.client(1)?.address(), self.lab.client(2)?.address()])
    }

    fn log(&self) -> String {
        let logs = [1, 2].map(|client| self.lab.shared(&format!("a{client}.log")));
        logs.map(|log| String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()).concat()
    }

    /// Lines in which they complain of what they found, and none of what clients did.
    pub(super) fn errors(&self) -> anyhow::Result<usize> {
        let log = self.log();
        let complaints =
            log.lines().filter(|line| ["Error:", "Panic:", "Fatal:"].iter().any(|word| line.contains(word)));
        Ok(complaints.count())
    }
}

fn config(dir: &Path, system: System) -> String {
    let (format, options) = match system {
        System::Mdbox | System::Roost => ("mdbox", ""),
        System::Maildir => ("maildir", ""),
        System::MdboxAdvised => ("mdbox", ADVISED),
        System::MaildirAdvised => ("maildir", ADVISED),
    };
    format!(
        "base_dir = /run/dovecot\nstate_dir = /run/dovecot\nprotocols = imap lmtp\nlog_path = /dev/stderr\nssl = no\nlisten = *\n\
         disable_plaintext_auth = no\nmail_max_userip_connections = 0\nauth_failure_delay = 0\n\
         mail_uid = nobody\nmail_gid = nogroup\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n\
         mail_location = {format}:{MOUNTED}/mail/%d/%n/{format}\n{options}\
         passdb {{\n  driver = passwd-file\n  args = {users}\n}}\n\
         userdb {{\n  driver = static\n  args = uid=nobody gid=nogroup home={MOUNTED}/mail/%d/%n\n}}\n\
         namespace inbox {{\n  inbox = yes\n  separator = /\n}}\n\
         protocol lmtp {{\n  postmaster_address = postmaster@example.org\n  auth_username_format = %u\n}}\n\
         service imap-login {{\n  inet_listener imaps {{\n    port = 0\n  }}\n}}\n\
         service lmtp {{\n  inet_listener lmtp {{\n    port = {lmtp}\n  }}\n}}\n",
        users = dir.join("users").display(),
        lmtp = super::load::LMTP,
    )
}
