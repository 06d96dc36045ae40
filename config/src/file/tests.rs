use std::time::Duration;

use super::*;
use crate::value::{Endpoint, MailFormat, Size};

fn loaded(text: &str) -> Config {
    load(text, Path::new("/etc/roost/roost.toml")).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
}

/// Each mistake as `line: message`.
fn mistakes(text: &str) -> Vec<String> {
    let mistakes = load(text, Path::new("roost.toml")).unwrap_err();
    mistakes.iter().map(|mistake| format!("{}: {}", mistake.line, mistake.message)).collect()
}

#[track_caller]
fn refused(text: &str, line: usize, words: &[&str]) {
    let mistakes = mistakes(text);
    let [mistake] = &mistakes[..] else { panic!("one mistake in {text:?}, not {mistakes:#?}") };
    assert!(mistake.starts_with(&format!("{line}: ")), "{mistake} not on line {line}");
    assert!(words.iter().all(|word| mistake.contains(word)), "{mistake} lacks {words:?}");
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(loaded(""), Config::default());
    assert_eq!(Config::default().mail.format, MailFormat::Maildir);
}

#[test]
fn the_samples_load() {
    for (name, text) in [
        ("single-node", include_str!("../../samples/single-node.toml")),
        ("three-nodes", include_str!("../../samples/three-nodes.toml")),
        ("loopback", include_str!("../../samples/loopback.toml")),
    ] {
        let config = loaded(text);
        assert_eq!(config.auth.passdb[0].path.as_deref(), Some(Path::new("/etc/roost/users")), "{name}");
        assert!(!config.listen.lmtp.is_empty());
    }
}

#[test]
fn the_keys_of_the_interface_are_known() {
    let config = loaded(
        r#"
        [node]
        id = 1
        name = "a1"
        state_dir = "/var/lib/roost"
        admin_socket = "/run/roost/admin.sock"
        run_as = "vmail:mail"
        [mail]
        root = "/srv/mail"
        format = "maildir"
        account_dir = "{domain}/{hash:2}/{local}"
        durability = "relaxed"
        observe = "10s"
        [listen]
        imap = ["127.0.0.1:1143", "unix:imap.sock"]
        pop3s = []
        managesieve = []
        sasl = []
        admin_http = ["127.0.0.1:1080"]
        peer = "127.0.0.1:7001"
        [tls]
        certificate = "cert.pem"
        key = "key.pem"
        min_version = "1.3"
        [[tls.sni]]
        name = "mail.example.org"
        certificate = "/c.pem"
        key = "/k.pem"
        [auth]
        mechanisms = ["PLAIN", "LOGIN", "SCRAM-SHA-256"]
        plaintext_without_tls = "never"
        [[auth.passdb]]
        driver = "passwd-file"
        path = "users"
        [[auth.passdb]]
        driver = "static"
        password = "x"
        [cluster]
        site = "a"
        lease = "5s"
        [[cluster.member]]
        id = 1
        peer = "127.0.0.1:7001"
        [cluster.tls]
        ca = "ca.pem"
        certificate = "c.pem"
        key = "k.pem"
        [replication]
        slot = 3
        [quota]
        storage = "1G"
        [sieve]
        [search]
        [acl]
        [limits]
        message_size = "64M"
        [log]
        [metrics]
        [quirks]
        "#,
    );
    assert_eq!(config.listen.imap[1], Endpoint::Unix("/etc/roost/imap.sock".into()));
    assert_eq!(config.tls.certificate.as_deref(), Some(Path::new("/etc/roost/cert.pem")));
    assert_eq!(config.quota.storage, Size(1 << 30));
    assert_eq!(config.auth.passdb.len(), 2);
}

#[test]
fn a_misspelt_key_is_refused_with_the_nearest_one() {
    refused("[node]\nid = 1\nsate_dir = \"/x\"\n", 3, &["sate_dir", "[node]", "did you mean state_dir?"]);
    refused("[lisen]\nimap = []\n", 1, &["unknown section lisen", "did you mean listen?"]);
    refused("[mail]\nxyzzy = 1\n", 2, &["known are root, format"]);
    refused(
        "[[auth.passdb]]\ndriver = \"passwd-file\"\npath = \"u\"\nschem = \"PLAIN\"",
        4,
        &["schem", "auth.passdb[0]"],
    );
}

#[test]
fn a_mistake_says_file_line_and_column() {
    let mistakes = load("[node]\n  id = \"x\"\n", Path::new("dir/roost.toml")).unwrap_err();
    assert!(
        mistakes[0]
            .to_string()
            .starts_with("dir/roost.toml:2:8: this is a TOML string; write a whole number")
    );
}

#[test]
fn all_mistakes_are_told_at_once_in_order() {
    let found = mistakes("[log]\nlevel = \"loud\"\n[node]\nid = 300\nx = 1\n");
    let lines: Vec<&str> = found.iter().map(|mistake| &mistake[..1]).collect();
    assert_eq!(lines, ["2", "4", "5"], "{found:?}");
}

#[test]
fn broken_toml_is_told_with_its_line() {
    for text in ["[node]\nid = \n", "[node]\nid = 1\nid = 2\n", "[node\n", "\u{0}", "[node]\nid = 1 1"] {
        assert!(!mistakes(text).is_empty(), "{text:?}");
    }
    assert!(mistakes("[node]\nid = 1\nid = 2\n")[0].starts_with("3: "));
}

#[test]
fn values_of_the_wrong_kind_say_what_to_write() {
    refused("[mail]\nobserve = 10\n", 2, &["integer", "\"30s\""]);
    refused("[mail]\nobserve = \"10\"\n", 2, &["not a duration", "\"30s\""]);
    refused("[mail]\nobserve = \"99999999999999999999s\"\n", 2, &["not a duration"]);
    refused("[mail]\nobserve = \"9999999999d\"\n", 2, &["ten years"]);
    refused("[limits]\nmessage_size = \"64X\"\n", 2, &["not a size", "\"64M\""]);
    refused("[listen]\npeer = \"localhost\"\n", 2, &["not an address", "127.0.0.1:1143"]);
    refused("[listen]\npeer = \"unix:\"\n", 2, &["names no path"]);
    refused("node = 3\n", 1, &["write a table, [node]"]);
    refused("[auth.passdb]\ndriver = \"static\"\n", 1, &["write [[auth.passdb]]"]);
    refused("[log]\nlevel = \"inof\"\n", 2, &["did you mean \"info\"?"]);
    refused("[quirks]\npop3_lock = \"yes\"\n", 2, &["true or false"]);
}

#[test]
fn durations_and_sizes_are_read_with_their_units() {
    let observe = |text: &str| loaded(&format!("[mail]\nobserve = \"{text}\"\n")).mail.observe;
    assert_eq!(observe("250ms"), Duration::from_millis(250));
    assert_eq!(observe("1h"), Duration::from_secs(3600));
    let size = |text: &str| loaded(&format!("[quota]\nstorage = {text}\n")).quota.storage.0;
    assert_eq!([size("\"512K\""), size("\"2g\""), size("\"7\""), size("123")], [512 << 10, 2 << 30, 7, 123]);
}

#[test]
fn what_this_version_cannot_serve_is_refused_with_advice() {
    refused("[mail]\nformat = \"mdbox\"\n", 2, &["write format = \"maildir\""]);
    refused("[mail]\nlocation = \"maildir:~/Maildir\"\n", 2, &["leave location out"]);
    refused("[listen]\nmanagesieve = [\"127.0.0.1:4190\"]\n", 2, &["does not serve"]);
    refused("[listen]\nsasl = [\"unix:/run/a\"]\n", 2, &["does not serve"]);
    refused("[auth]\nmechanisms = [\"PLAIN\", \"OAUTHBEARER\"]\n", 2, &["does not speak OAUTHBEARER"]);
    refused("[[auth.passdb]]\ndriver = \"ldap\"\n", 2, &["has no ldap", "passwd-file"]);
    refused("[search]\nindex = \"x\"\n", 2, &["nothing to set in [search]"]);
    let two = "[[cluster.member]]\nid = 1\npeer = \"a:1\"\n[[cluster.member]]\nid = 2\npeer = \"b:1\"\n";
    let two = &format!("{two}[listen]\npeer = \"127.0.0.1:7001\"\n");
    refused(two, 4, &["check each other's certificates", "roost cluster pki"]);
    let tls = "[cluster.tls]\nca = \"a\"\ncertificate = \"b\"\nkey = \"c\"\n";
    loaded(&format!("{two}{tls}"));
    refused("[cluster.tls]\nca = \"a\"\n", 2, &["certificate", "key"]);
    let site =
        "[[replication.site]]\nname = \"b\"\nslot = 1\npeers = [\"127.0.0.1:7101\"]\nmode = \"async\"\n";
    refused(site, 1, &["serves a site alone"]);
}

#[test]
fn a_static_user_database_refuses_a_password_it_cannot_check() {
    let text = "[[auth.passdb]]\ndriver = \"static\"\npassword = \"{NOPE}x\"\n";
    refused(text, 3, &["unknown password scheme {NOPE}"]);
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    refused("[node]\nstate_dir = \"/srv/mail/state\"\n", 2, &["must not lie in each other"]);
    refused("[node]\nid = 2\n[[cluster.member]]\nid = 1\npeer = \"a:1\"\n", 3, &["id 2", "not among them"]);
    refused("[tls]\ncertificate = \"c\"\n", 2, &["key"]);
    refused(
        "[listen]\npeer = \"127.0.0.1:1\"\nadmin_http = [\"127.0.0.1:1\"]\n",
        2,
        &["already taken by listen.admin_http"],
    );
    refused("[listen]\nimap = [\"127.0.0.1:1143\"]\n", 1, &["there is no user", "passwd-file"]);
    refused("[listen]\nadmin_http = [\"0.0.0.0:1080\"]\n", 2, &["token"]);
    refused("[[auth.passdb]]\ndriver = \"passwd-file\"\n", 1, &["needs path"]);
    refused(
        "[[auth.passdb]]\ndriver = \"passwd-file\"\npath = \"x\"\ndefault_scheme = \"ROT13\"\n",
        4,
        &["SSHA512"],
    );
    refused("[[auth.passdb]]\npath = \"x\"\n", 1, &["lacks driver"]);
    refused(
        "[[auth.passdb]]\ndriver = \"static\"\npassword = \"x\"\npath = \"u\"\n",
        4,
        &["does not know it"],
    );
    refused("[cluster]\nlease = \"10m\"\n", 2, &["duration from 1s to 60s"]);
    refused("[cluster]\nfrozen_read_max = \"1h\"\n", 2, &["at most 10m"]);
    refused("[replication]\nslot = 16\n", 2, &["0 to 15"]);
    refused("[auth]\nfailure_delay = \"20s\"\n", 2, &["failure_delay_max"]);
    refused("[limits]\nrecipients = 0\n", 2, &["1 to 100000"]);
}

#[test]
fn ports_that_the_system_chooses_do_not_collide() {
    loaded("[listen]\nadmin_http = [\"127.0.0.1:0\"]\npeer = \"127.0.0.1:0\"\n");
}

#[test]
fn account_directories_must_be_separate_and_below_the_root() {
    for good in ["{domain}/{local}", "{user}", "{hash:2}/{user}", "{domain}/{hash:1}/{local}", "users/{user}"]
    {
        loaded(&format!("[mail]\naccount_dir = \"{good}\"\n"));
    }
    for bad in [
        "",
        "{local}",
        "{domain}",
        "/{user}",
        "{user}/",
        "../{user}",
        "a//{user}",
        "{usr}",
        "{user",
        "user}",
        "{hash:9}/{user}",
        ".x/{user}",
    ] {
        assert_eq!(mistakes(&format!("[mail]\naccount_dir = \"{bad}\"\n")).len(), 1, "{bad}");
    }
}

#[test]
fn uidl_formats_must_tell_messages_apart() {
    for good in ["%08Xu%08Xv", "%u", "%v.%u", "UID%u-%v"] {
        loaded(&format!("[quirks]\npop3_uidl_format = \"{good}\"\n"));
    }
    for bad in ["", "%v", "%", "%08X", "%g", "%u %v", "%99999999999999999999u", "%u%v%u%v%u%v%u%v", "ü%u"] {
        assert_eq!(mistakes(&format!("[quirks]\npop3_uidl_format = \"{bad}\"\n")).len(), 1, "{bad}");
    }
}

#[test]
fn hostile_files_are_refused_without_harm() {
    let deep = format!("x = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let keys = format!("{} = 1", vec!["a"; 100_000].join("."));
    for text in [deep.as_str(), keys.as_str(), &"[".repeat(100_000), &"\"".repeat(10_001), "é = 1"] {
        assert!(load(text, Path::new("roost.toml")).is_err());
    }
}
