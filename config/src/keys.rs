//! Every key there is, with its sentence. What stands above a key here is what `roost config show --defaults` prints.

use std::path::PathBuf;
use std::time::Duration;

use crate::section::{Tables, reserved, section};
use crate::value::{
    Driver, Durability, Endpoint, LogFormat, LogLevel, MailFormat, Mechanism, Plaintext, ReplicationMode,
    Size, TlsVersion,
};

const SECOND: u64 = 1;
const MINUTE: u64 = 60;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

section! {
    /// A whole configuration file.
    Config requires [] {
        /// This node, alone.
        node: Node = Node::default(),
        /// Where mail lies and how.
        mail: Mail = Mail::default(),
        /// Where to listen: each a list of "addr:port" or "unix:/path"; absent = not served.
        listen: Listen = Listen::default(),
        /// Certificates. Reloaded when the files change; absent = self-signed, with a warning.
        tls: Tls = Tls::default(),
        /// Who may log in, and how.
        auth: Auth = Auth::default(),
        /// The nodes of this site.
        cluster: Cluster = Cluster::default(),
        /// Other sites.
        replication: Replication = Replication::default(),
        /// How much an account may hold.
        quota: Quota = Quota::default(),
        /// Sieve scripts: nothing to set yet.
        sieve: Sieve = Sieve,
        /// Full-text search: nothing to set yet.
        search: Search = Search,
        /// Shared mailboxes: nothing to set yet.
        acl: Acl = Acl,
        /// Bounds on what a client may ask for.
        limits: Limits = Limits::default(),
        /// What is logged, to standard error.
        log: Log = Log::default(),
        /// Who may read /metrics and the status page.
        metrics: Metrics = Metrics::default(),
        /// Manners of other servers that old clients rely on.
        quirks: Quirks = Quirks::default(),
    }
}

section! {
    /// `[node]`
    Node requires [] {
        /// Number of this node, 1 to 255, unique in the site.
        id: u8 = 1,
        /// Name in logs and for the other nodes; not set = the site's name and the number.
        name: Option<String> = None,
        /// LOCAL disk: Raft log and state, caches. Never on the shared filesystem.
        state_dir: PathBuf = "/var/lib/roost".into(),
        /// Where `roost` commands talk to this node.
        admin_socket: PathBuf = "/run/roost/admin.sock".into(),
        /// user or user:group, taken on after binding; required when started as root.
        run_as: Option<String> = None,
    }
}

section! {
    /// `[mail]`
    Mail requires [] {
        /// Local or NFS; the same tree on every node of the site.
        root: PathBuf = "/srv/mail".into(),
        /// Format of new accounts: "maildir". An existing store is recognised.
        format: MailFormat = MailFormat::Maildir,
        /// An account's home, below root: of {domain}, {local}, {user} and {hash:N} (N hexadecimal digits).
        account_dir: String = "{domain}/{local}".to_owned(),
        /// Dovecot's mail_location, only where existing accounts lie otherwise. Not served yet.
        location: Option<String> = None,
        /// "fsync": an acknowledged change is on stable storage. "relaxed": it may be lost with the machine.
        durability: Durability = Durability::Fsync,
        /// How soon what other programs did in a Maildir is seen while sessions are open.
        observe: Duration = seconds(10 * SECOND),
        /// What separates user and detail in a recipient's address; empty = addresses have no detail.
        recipient_delimiter: String = "+".to_owned(),
    }
}

section! {
    /// `[listen]`
    Listen requires [] {
        /// IMAP, with STARTTLS.
        imap: Vec<Endpoint> = Vec::new(),
        /// IMAP in TLS from the first byte.
        imaps: Vec<Endpoint> = Vec::new(),
        /// POP3, with STLS.
        pop3: Vec<Endpoint> = Vec::new(),
        /// POP3 in TLS from the first byte.
        pop3s: Vec<Endpoint> = Vec::new(),
        /// Mail comes in here.
        lmtp: Vec<Endpoint> = Vec::new(),
        /// ManageSieve. Not served yet.
        managesieve: Vec<Endpoint> = Vec::new(),
        /// Dovecot's auth-client protocol, for Postfix, Exim and OpenSMTPD. Not served yet.
        sasl: Vec<Endpoint> = Vec::new(),
        /// /metrics, /healthz, /readyz and / (status page); a token unless loopback.
        admin_http: Vec<Endpoint> = Vec::new(),
        /// Node to node and site to site, mutual TLS. Other sites come with a later version.
        peer: Option<Endpoint> = None,
    }
}

section! {
    /// `[tls]`
    Tls requires [] {
        /// PEM file with the certificate and those that signed it.
        certificate: Option<PathBuf> = None,
        /// PEM file with its key.
        key: Option<PathBuf> = None,
        /// The oldest TLS spoken: "1.2" or "1.3".
        min_version: TlsVersion = TlsVersion::V12,
        /// Another certificate for clients that ask for this name.
        sni: Tables<Sni> = Tables::default(),
    }
}

section! {
    /// `[[tls.sni]]`
    Sni requires ["name", "certificate", "key"] {
        /// The name that clients ask for.
        name: String = String::new(),
        /// PEM file with the certificate and those that signed it.
        certificate: PathBuf = PathBuf::new(),
        /// PEM file with its key.
        key: PathBuf = PathBuf::new(),
    }
}

section! {
    /// `[auth]`
    Auth requires [] {
        /// SASL mechanisms: PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-1. SCRAM is offered only while every user's stored
        /// password can serve it ({SCRAM-SHA-256} or {PLAIN}): clients prefer it, and others would be locked out.
        mechanisms: Vec<Mechanism> = vec![Mechanism::Plain, Mechanism::Login, Mechanism::ScramSha256],
        /// Where passwords may cross the wire without TLS: "never", "loopback" or "always".
        plaintext_without_tls: Plaintext = Plaintext::Loopback,
        /// The domain of users who name none.
        default_realm: Option<String> = None,
        /// What the first failed login of an address waits; each further one waits twice as long.
        failure_delay: Duration = seconds(2 * SECOND),
        /// The longest wait.
        failure_delay_max: Duration = seconds(15 * SECOND),
        /// One failure is forgiven after so long without another.
        failure_forgive: Duration = seconds(MINUTE),
        /// Password hashes computed at the same time; 0 = as many as there are processors.
        hashes_max: u32 = 0,
        /// User databases, asked in order; the first that knows the user decides.
        passdb: Tables<PassdbEntry> = Tables::default(),
    }
}

section! {
    /// `[[auth.passdb]]`
    PassdbEntry requires ["driver"] {
        /// "passwd-file" or "static".
        driver: Driver = Driver::PasswdFile,
        /// passwd-file: the file, in Dovecot's syntax: user:{SCHEME}hash:uid:gid::home::extra
        path: Option<PathBuf> = None,
        /// passwd-file: the scheme of a hash without {SCHEME}; not set = CRYPT, which goes by the hash's own prefix.
        default_scheme: Option<String> = None,
        /// static: everybody's password, plain or as {SCHEME}hash.
        password: Option<String> = None,
        /// static: the users there are; not set = whoever is asked for.
        users: Option<Vec<String>> = None,
    }
}

section! {
    /// `[cluster]`
    Cluster requires [] {
        /// This node's site.
        site: String = "a".to_owned(),
        /// Node session; take-over of a dead node's accounts starts after it.
        lease: Duration = seconds(5 * SECOND),
        /// How long sessions go on read-only, and are told so, when the lease is over because the site has no majority; then
        /// they end. "0s" = they end at once.
        frozen_read_max: Duration = seconds(MINUTE),
        /// Raft groups that share the accounts; fixed when the site is founded. 8 is enough for 10 million accounts.
        groups: u16 = 1,
        /// The voters of this site; none or one = embedded single-node Raft. A site of new members forms by itself when a
        /// majority is up.
        member: Tables<Member> = Tables::default(),
        /// Certificates between nodes; several members need them. Absent: made once under node.state_dir, for a node alone.
        tls: ClusterTls = ClusterTls::default(),
    }
}

section! {
    /// `[[cluster.member]]`
    Member requires ["id", "peer"] {
        /// Its `node.id`.
        id: u8 = 0,
        /// Its `listen.peer`, as this node reaches it.
        peer: String = String::new(),
    }
}

section! {
    /// `[cluster.tls]`
    ClusterTls requires [] {
        /// The CA of node certificates.
        ca: Option<PathBuf> = None,
        /// This node's certificate.
        certificate: Option<PathBuf> = None,
        /// Its key.
        key: Option<PathBuf> = None,
    }
}

section! {
    /// `[replication]`
    Replication requires [] {
        /// This site's own slot, 0 to 15.
        slot: u8 = 0,
        /// Other sites; none = a site alone. Not served yet.
        site: Tables<ReplicationSite> = Tables::default(),
    }
}

section! {
    /// `[[replication.site]]`
    ReplicationSite requires ["name", "slot", "peers"] {
        /// Its name there: `cluster.site`.
        name: String = String::new(),
        /// Its slot there: `replication.slot`.
        slot: u8 = 0,
        /// The CA of that site's node certificates; absent = the same as cluster.tls.ca.
        ca: Option<PathBuf> = None,
        /// Its nodes' `listen.peer`.
        peers: Vec<String> = Vec::new(),
        /// What an acknowledgement waits for there: "async", "semi-prefer", "semi-require" or "standby".
        mode: ReplicationMode = ReplicationMode::Async,
    }
}

section! {
    /// `[quota]`
    Quota requires [] {
        /// Bytes an account may hold; "0" = no limit.
        storage: Size = Size(0),
    }
}

reserved! {
    /// `[sieve]`
    Sieve
}
reserved! {
    /// `[search]`
    Search
}
reserved! {
    /// `[acl]`
    Acl
}

section! {
    /// `[limits]`
    Limits requires [] {
        /// Largest message taken, by LMTP and by APPEND.
        message_size: Size = Size::mebibytes(64),
        /// Longest IMAP command without its literals.
        imap_line: Size = Size(64 << 10),
        /// Longest literal of an IMAP command other than APPEND's message.
        imap_literal: Size = Size(64 << 10),
        /// Connections of all protocols.
        connections: u32 = 10_000,
        /// Sessions of one user, by protocol.
        connections_per_user: u32 = 50,
        /// Connections of one address that have not logged in.
        connections_unauthenticated: u32 = 100,
        /// Mailboxes in one account.
        mailboxes: u32 = 10_000,
        /// Recipients of one LMTP transaction; further ones are told to come in another.
        recipients: u32 = 1000,
        /// How long a connection may be connected without logging in.
        login_timeout: Duration = seconds(MINUTE),
        /// Failed logins after which a connection is closed.
        login_attempts: u32 = 5,
        /// How long an IMAP session may stay silent. RFC 9051 §5.4 asks for 30 minutes at least.
        imap_idle_timeout: Duration = seconds(30 * MINUTE),
        /// How long a POP3 session may stay silent. RFC 1939 §3 asks for 10 minutes at least.
        pop3_idle_timeout: Duration = seconds(10 * MINUTE),
        /// How long an LMTP connection may stay silent. RFC 5321 §4.5.3.2 asks for 5 minutes at least.
        lmtp_idle_timeout: Duration = seconds(5 * MINUTE),
        /// How long a client may take nothing of what we send before it is disconnected.
        output_stall: Duration = seconds(5 * MINUTE),
        /// How long running commands may go on after SIGTERM.
        drain_timeout: Duration = seconds(30 * SECOND),
    }
}

section! {
    /// `[log]`
    Log requires [] {
        /// "error", "warn", "info", "debug" or "trace".
        level: LogLevel = LogLevel::Info,
        /// "text" or "json".
        format: LogFormat = LogFormat::Text,
    }
}

section! {
    /// `[metrics]`
    Metrics requires [] {
        /// What a client of admin_http sends as `Authorization: Bearer ...`; required unless it listens on loopback only.
        token: Option<String> = None,
    }
}

section! {
    /// `[quirks]`
    Quirks requires [] {
        /// POP3 UIDL: %u is the UID and %v the UIDVALIDITY, each as printf writes it (%08Xu). Dovecot's default.
        pop3_uidl_format: String = "%08Xu%08Xv".to_owned(),
        /// One POP3 session at a time for an account (RFC 1939 §3); Dovecot lets several in unless told otherwise.
        pop3_lock: bool = true,
    }
}
