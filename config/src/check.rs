//! What must hold between keys, and what this version cannot serve yet.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use auth::Scheme;
use auth::scheme::Stored;

use crate::file::Reader;
use crate::keys::{Auth, Cluster, Config, Listen, Mail, PassdbEntry};
use crate::value::{Driver, Endpoint, MailFormat, Mechanism, Size};

pub(crate) fn check(config: &Config, reader: &mut Reader<'_>) {
    node(config, reader);
    mail(&config.mail, reader);
    listen(config, reader);
    tls(config, reader);
    auth(config, reader);
    cluster(config, reader);
    replication(config, reader);
    limits(config, reader);
    quirks(config, reader);
}

fn node(config: &Config, reader: &mut Reader<'_>) {
    let node = &config.node;
    if node.id == 0 {
        reader.complain_at("node.id", "write a number from 1 to 255");
    }
    if node.name.as_ref().is_some_and(|name| !is_label(name)) {
        reader.complain_at("node.name", "a name is letters, digits, - and _; write another");
    }
    if node
        .run_as
        .as_ref()
        .is_some_and(|user| user.split(':').count() > 2 || user.split(':').any(str::is_empty))
    {
        reader.complain_at("node.run_as", "write \"user\" or \"user:group\"");
    }
    if lies_in(&node.state_dir, &config.mail.root) || lies_in(&config.mail.root, &node.state_dir) {
        let advice = "state_dir and mail.root must not lie in each other: state is this node's own, on a local disk; \
                      write a directory elsewhere, such as \"/var/lib/roost\"";
        reader.complain_at("node.state_dir", advice);
    }
}

fn mail(mail: &Mail, reader: &mut Reader<'_>) {
    match mail.format {
        MailFormat::Maildir => {}
        MailFormat::Mdbox | MailFormat::Sdbox => {
            reader.complain_at(
                "mail.format",
                "this version stores new accounts as maildir; write format = \"maildir\"",
            );
        }
    }
    if mail.location.is_some() {
        let advice = "this version finds accounts by root and account_dir only; leave location out and name the \
                      directories with account_dir";
        reader.complain_at("mail.location", advice);
    }
    if let Err(advice) = account_dir(&mail.account_dir) {
        reader.complain_at("mail.account_dir", advice);
    }
    between(reader, "mail.observe", mail.observe, Duration::from_millis(100), Duration::from_secs(3600));
    let delimiter = &mail.recipient_delimiter;
    if delimiter
        .chars()
        .any(|c| !c.is_ascii_punctuation() || matches!(c, '@' | '.' | '"' | '\\' | '/' | '<' | '>'))
    {
        reader.complain_at(
            "mail.recipient_delimiter",
            "write punctuation such as \"+\" or \"-\", or \"\" for none",
        );
    }
}

/// Every account needs a directory of its own, below the root.
fn account_dir(template: &str) -> Result<(), String> {
    let mut names = HashSet::new();
    let mut rest = template;
    let mut literal = String::new();
    while let Some((before, after)) = rest.split_once('{') {
        literal.push_str(before);
        literal.push('x');
        let (name, after) = after.split_once('}').ok_or_else(|| "a { has no }".to_owned())?;
        let hash = name.strip_prefix("hash:").and_then(|digits| digits.parse::<u8>().ok());
        if !matches!(name, "domain" | "local" | "user")
            && !hash.is_some_and(|digits| (1..=8).contains(&digits))
        {
            return Err(format!(
                "unknown {{{name}}}; known are {{domain}}, {{local}}, {{user}} and {{hash:N}}, N 1 to 8"
            ));
        }
        names.insert(name);
        rest = after;
    }
    literal.push_str(rest);
    if literal.contains('}') || literal.chars().any(char::is_control) {
        return Err("braces stand around names only, and nothing is a control character".to_owned());
    }
    let parts = literal.split('/');
    if parts.into_iter().any(|part| part.is_empty() || part.starts_with('.')) {
        return Err("write a relative path whose parts are not empty and do not start with a dot".to_owned());
    }
    let unique = names.contains("user") || (names.contains("local") && names.contains("domain"));
    if unique {
        return Ok(());
    }
    Err("two accounts would share a directory; write {user}, or both {domain} and {local}".to_owned())
}

fn listen(config: &Config, reader: &mut Reader<'_>) {
    let Listen { imap, imaps, pop3, pop3s, lmtp, managesieve, sasl, admin_http, peer } = &config.listen;
    let lists = [
        ("listen.imap", imap.as_slice()),
        ("listen.imaps", imaps),
        ("listen.pop3", pop3),
        ("listen.pop3s", pop3s),
        ("listen.lmtp", lmtp),
        ("listen.managesieve", managesieve),
        ("listen.sasl", sasl),
        ("listen.admin_http", admin_http),
        ("listen.peer", peer.as_slice()),
    ];
    let mut taken = HashMap::new();
    for (key, endpoint) in
        lists.iter().flat_map(|(key, list)| list.iter().map(move |endpoint| (*key, endpoint)))
    {
        // Any number of listeners may ask the system for a free port.
        let free_port = matches!(endpoint, Endpoint::Tcp(address) if address.port() == 0);
        if let Some(other) = taken.insert(endpoint, key).filter(|_| !free_port) {
            reader.complain_at(key, format!("{endpoint} is already taken by {other}; write another port"));
        }
    }
    for (key, list) in [("listen.managesieve", managesieve), ("listen.sasl", sasl)] {
        if !list.is_empty() {
            reader.complain_at(key, "this version does not serve it; write [] or leave it out");
        }
    }
    let loopback = |endpoint: &Endpoint| match endpoint {
        Endpoint::Tcp(address) => address.ip().is_loopback(),
        Endpoint::Unix(_) => true,
    };
    if !admin_http.iter().all(loopback) && config.metrics.token.is_none() {
        let advice =
            "beyond loopback it needs a token; write token = \"...\" in [metrics], or listen on 127.0.0.1";
        reader.complain_at("listen.admin_http", advice);
    }
    if config
        .metrics
        .token
        .as_ref()
        .is_some_and(|token| token.len() < 8 || !token.chars().all(|c| c.is_ascii_graphic()))
    {
        reader.complain_at("metrics.token", "write 8 printable characters or more, without spaces");
    }
    if matches!(peer, Some(Endpoint::Unix(_))) {
        reader
            .complain_at("listen.peer", "other hosts cannot reach a UNIX socket; write an address and port");
    }
}

fn tls(config: &Config, reader: &mut Reader<'_>) {
    let pairs = [
        ("tls", &config.tls.certificate, &config.tls.key),
        ("cluster.tls", &config.cluster.tls.certificate, &config.cluster.tls.key),
    ];
    for (section, certificate, key) in pairs {
        match (certificate, key) {
            (Some(_), None) => {
                reader.complain_at(&format!("{section}.certificate"), "write its key = \"...\" too")
            }
            (None, Some(_)) => {
                reader.complain_at(&format!("{section}.key"), "write its certificate = \"...\" too")
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    let mut names = HashSet::new();
    for (index, sni) in config.tls.sni.iter().enumerate() {
        if !names.insert(sni.name.to_ascii_lowercase()) {
            reader.complain_at(&format!("tls.sni[{index}].name"), "this name has a certificate already");
        }
    }
}

fn auth(config: &Config, reader: &mut Reader<'_>) {
    let Auth { mechanisms, default_realm, failure_delay, failure_delay_max, passdb, .. } = &config.auth;
    let mut seen: Vec<Mechanism> = Vec::new();
    for mechanism in mechanisms {
        let name = mechanism.name();
        if seen.contains(mechanism) {
            reader.complain_at("auth.mechanisms", format!("{name} stands here twice"));
        }
        seen.push(*mechanism);
        match mechanism {
            Mechanism::Plain | Mechanism::Login | Mechanism::ScramSha256 | Mechanism::ScramSha1 => {}
            Mechanism::OauthBearer | Mechanism::Xoauth2 | Mechanism::External => {
                let advice = format!(
                    "this version does not speak {name}; leave it out (PLAIN, LOGIN, SCRAM-SHA-256 and SCRAM-SHA-1 are served)"
                );
                reader.complain_at("auth.mechanisms", advice);
            }
        }
    }
    if default_realm.as_ref().is_some_and(|realm| {
        realm.is_empty() || realm.starts_with('.') || realm.contains(['/', '@', '\\']) || realm.contains("..")
    }) {
        reader.complain_at("auth.default_realm", "write a domain such as \"example.org\"");
    }
    if failure_delay > failure_delay_max {
        reader.complain_at("auth.failure_delay", "it is longer than failure_delay_max; write a shorter one");
    }
    between(reader, "auth.failure_delay_max", *failure_delay_max, Duration::ZERO, Duration::from_secs(60));
    let forgive = config.auth.failure_forgive;
    between(reader, "auth.failure_forgive", forgive, Duration::from_secs(1), Duration::from_secs(86_400));
    for (index, entry) in passdb.iter().enumerate() {
        passdb_entry(entry, &format!("auth.passdb[{index}]"), reader);
    }
    let Listen { imap, imaps, pop3, pop3s, lmtp, .. } = &config.listen;
    if passdb.is_empty() && ![imap, imaps, pop3, pop3s, lmtp].iter().all(|list| list.is_empty()) {
        let advice =
            "there is no user; write [[auth.passdb]] with driver = \"passwd-file\" and path = \"users\"";
        reader.complain_at("auth.passdb", advice);
    }
}

fn passdb_entry(entry: &PassdbEntry, path: &str, reader: &mut Reader<'_>) {
    let needed = match entry.driver {
        Driver::PasswdFile => ["path", "default_scheme"].as_slice(),
        Driver::Static => &["password", "users"],
        Driver::Sql | Driver::Ldap | Driver::Pam | Driver::Oauth2 | Driver::Lua => {
            let name = entry.driver.name();
            let advice =
                format!("this version has no {name}; write driver = \"passwd-file\" (or \"static\")");
            reader.complain_at(&format!("{path}.driver"), advice);
            return;
        }
    };
    for key in ["path", "default_scheme", "password", "users"] {
        let place = format!("{path}.{key}");
        if reader.has(&place) && !needed.contains(&key) {
            reader.complain_at(
                &place,
                format!("driver {} does not know it; leave it out", entry.driver.name()),
            );
        }
    }
    if entry.driver == Driver::PasswdFile && entry.path.is_none() {
        reader.complain_at(&format!("{path}.path"), "passwd-file needs path = \"...\"");
    }
    if entry.default_scheme.as_ref().is_some_and(|name| Scheme::from_name(name).is_none()) {
        let known = Scheme::all().map(Scheme::name).collect::<Vec<_>>().join(", ");
        reader.complain_at(&format!("{path}.default_scheme"), format!("unknown scheme; known are {known}"));
    }
    if entry.driver == Driver::Static {
        let password = format!("{path}.password");
        match entry.password.as_deref().unwrap_or_default() {
            "" => reader.complain_at(&password, "static needs password = \"...\""),
            text => {
                if let Err(error) = Stored::parse(text, Scheme::Plain) {
                    reader.complain_at(&password, error.to_string());
                }
            }
        }
    }
}

/// More logs than that are no faster.
const GROUPS_MAX: u16 = 64;

/// What is out of date for longer is better not shown.
const FROZEN_READ_MAX: Duration = Duration::from_secs(600);

fn cluster(config: &Config, reader: &mut Reader<'_>) {
    let Cluster { site, lease, frozen_read_max, groups, member, tls } = &config.cluster;
    if !is_label(site) {
        reader.complain_at("cluster.site", "a name is letters, digits, - and _; write another");
    }
    between(reader, "cluster.lease", *lease, Duration::from_secs(1), Duration::from_secs(60));
    if *frozen_read_max > FROZEN_READ_MAX {
        reader.complain_at("cluster.frozen_read_max", "write a duration of at most 10m");
    }
    if !(1..=GROUPS_MAX).contains(groups) {
        reader.complain_at("cluster.groups", format!("write a number from 1 to {GROUPS_MAX}"));
    }
    let mut ids = HashSet::new();
    for (index, entry) in member.iter().enumerate() {
        let path = format!("cluster.member[{index}]");
        if entry.id == 0 || !ids.insert(entry.id) {
            reader
                .complain_at(&format!("{path}.id"), "write a number from 1 to 255 that no other member has");
        }
        if !is_host_and_port(&entry.peer) {
            reader.complain_at(&format!("{path}.peer"), "write a host and port such as \"10.0.0.1:7001\"");
        }
    }
    if !member.is_empty() && !ids.contains(&config.node.id) {
        reader.complain_at(
            "cluster.member",
            format!("this node, id {}, is not among them; add it", config.node.id),
        );
    }
    if tls.certificate.is_some() && tls.ca.is_none() {
        reader.complain_at("cluster.tls.certificate", "write the ca = \"...\" that signed it too");
    }
    if tls.ca.is_some() && tls.certificate.is_none() && tls.key.is_none() {
        reader.complain_at("cluster.tls.ca", "write this node's certificate = \"...\" and key = \"...\" too");
    }
    if member.len() > 1 {
        if tls.ca.is_none() {
            let advice = "several members check each other's certificates: write ca, certificate and key, as \
                          `roost cluster pki` makes them";
            reader.complain_at("cluster.member[1]", advice);
        }
        if config.listen.peer.is_none() {
            reader.complain_at(
                "listen.peer",
                "the other members come here: write this node's own host and port",
            );
        }
    }
}

fn replication(config: &Config, reader: &mut Reader<'_>) {
    if config.replication.slot > 15 {
        reader.complain_at("replication.slot", "write a number from 0 to 15");
    }
    if !config.replication.site.is_empty() {
        let advice = "this version serves a site alone; leave [[replication.site]] out";
        reader.complain_at("replication.site", advice);
    }
}

fn limits(config: &Config, reader: &mut Reader<'_>) {
    let limits = &config.limits;
    let sizes = [
        ("limits.message_size", limits.message_size, Size(1 << 10), Size(2 << 30)),
        ("limits.imap_line", limits.imap_line, Size(8 << 10), Size::mebibytes(16)),
        ("limits.imap_literal", limits.imap_literal, Size(1 << 10), Size::mebibytes(64)),
    ];
    for (key, size, least, most) in sizes {
        if size < least || size > most {
            reader.complain_at(key, format!("write a size from {} to {} bytes", least.0, most.0));
        }
    }
    let counts = [
        ("limits.connections", limits.connections, 1_000_000),
        ("limits.connections_per_user", limits.connections_per_user, 1_000_000),
        ("limits.connections_unauthenticated", limits.connections_unauthenticated, 1_000_000),
        ("limits.mailboxes", limits.mailboxes, 1_000_000),
        ("limits.recipients", limits.recipients, 100_000),
        ("limits.login_attempts", limits.login_attempts, 1000),
    ];
    for (key, count, most) in counts {
        if count == 0 || count > most {
            reader.complain_at(key, format!("write a number from 1 to {most}"));
        }
    }
    let day = Duration::from_secs(86_400);
    for (key, duration) in [
        ("limits.login_timeout", limits.login_timeout),
        ("limits.imap_idle_timeout", limits.imap_idle_timeout),
        ("limits.pop3_idle_timeout", limits.pop3_idle_timeout),
        ("limits.lmtp_idle_timeout", limits.lmtp_idle_timeout),
        ("limits.output_stall", limits.output_stall),
        ("limits.drain_timeout", limits.drain_timeout),
    ] {
        between(reader, key, duration, Duration::from_millis(100), day);
    }
}

fn quirks(config: &Config, reader: &mut Reader<'_>) {
    if !is_uidl_format(&config.quirks.pop3_uidl_format) {
        let advice = "write a format of %u (UID) and %v (UIDVALIDITY), such as \"%08Xu%08Xv\" or \"%v-%u\"; \
                      this version has no %f, %g or %m";
        reader.complain_at("quirks.pop3_uidl_format", advice);
    }
}

/// Printable, at most 70 characters when filled in (RFC 1939 §7), and different for each UID.
fn is_uidl_format(format: &str) -> bool {
    let mut length = 0_usize;
    let mut has_uid = false;
    let mut rest = format;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        if c != '%' {
            if !c.is_ascii_graphic() {
                return false;
            }
            length += 1;
            continue;
        }
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (width, after) = rest.split_at(digits);
        let after = after.strip_prefix(['X', 'x']).unwrap_or(after);
        let width = if width.is_empty() { 0 } else { width.parse::<usize>().unwrap_or(usize::MAX) };
        match after.chars().next() {
            Some('u') => has_uid = true,
            Some('v') => {}
            Some(_) | None => return false,
        }
        length = length.saturating_add(width.max(10));
        rest = after.get(1..).unwrap_or_default();
    }
    has_uid && length <= 70
}

fn between(reader: &mut Reader<'_>, key: &str, value: Duration, least: Duration, most: Duration) {
    if value < least || value > most {
        reader.complain_at(key, format!("write a duration from {least:?} to {most:?}"));
    }
}

/// Whether `inner` is `outer` or lies below it, as far as names tell.
fn lies_in(inner: &Path, outer: &Path) -> bool {
    inner.starts_with(outer)
}

fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

fn is_host_and_port(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let plausible = bare.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '%'));
        !bare.is_empty() && plausible && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}
