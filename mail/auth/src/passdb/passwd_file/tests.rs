use nfs_compat::DiskFs;

use super::*;

fn user(name: &str) -> UserName {
    UserName::parse(name, None).unwrap()
}

fn parsed(text: &str) -> (HashMap<UserName, Entry>, Vec<Broken>) {
    parse(text.as_bytes(), Scheme::Crypt, None)
}

fn one(line: &str) -> Entry {
    let (users, broken) = parsed(line);
    assert_eq!(broken, []);
    users.into_values().next().unwrap()
}

#[test]
fn a_full_line_in_dovecots_syntax_is_understood() {
    let entry = one("Ada@Example.org:{PLAIN}pw:5000:5000:Ada L.:/srv/mail/ada:/bin/false:\
                     userdb_quota_rule=*:storage=1G userdb_mail=maildir:~/Maildir allow_nets=10.0.0.0/8,::1 nologin\n");
    assert_eq!(entry.user, user("ada@example.org"));
    assert_eq!(entry.home.as_deref(), Some(Path::new("/srv/mail/ada")));
    assert_eq!(entry.extra["userdb_quota_rule"], "*:storage=1G");
    assert_eq!(entry.extra["userdb_mail"], "maildir:~/Maildir");
    assert!(entry.nologin);
    assert!(entry.may_come_from("10.2.3.4".parse().unwrap()));
    assert!(!entry.may_come_from("192.0.2.1".parse().unwrap()));
}

#[test]
fn short_lines_comments_and_blank_lines_are_fine() {
    let (users, broken) = parsed("# comment\n\n  \nada:{PLAIN}x\r\ngrace@example.org:{PLAIN}y:::::\n");
    assert_eq!(broken, []);
    assert_eq!(users.len(), 2);
    assert!(users[&user("ada")].may_come_from("192.0.2.1".parse().unwrap()));
}

#[test]
fn an_escaped_colon_is_part_of_the_password() {
    let Secret::Stored(stored) = one(r"ada:{PLAIN}a\:b\c:1:1::/srv/ada").password else { panic!() };
    assert!(stored.verify(r"a:b\c").unwrap());
}

#[test]
fn a_user_without_a_domain_gets_the_default_realm() {
    let (users, _) = parse(b"ada:{PLAIN}x\ngrace@b.org:{PLAIN}y\n", Scheme::Crypt, Some("a.org"));
    assert!(users.contains_key(&user("ada@a.org")) && users.contains_key(&user("grace@b.org")));
}

#[test]
fn a_broken_line_costs_nobody_else_and_is_named() {
    let lines: [&[u8]; 8] = [
        b"good@example.org:{PLAIN}x",
        b"\xff\xfe:{PLAIN}x",
        b"../evil:{PLAIN}x",
        b":{PLAIN}x",
        b"home@example.org:{PLAIN}x:::: ../x:",
        b"nets@example.org:{PLAIN}x::::::allow_nets=everywhere",
        b"good@example.org:{PLAIN}second",
        b"last@example.org:{PLAIN}y",
    ];
    let (users, broken) = parse(&lines.join(&b'\n'), Scheme::Crypt, None);
    assert_eq!(broken.iter().map(|broken| broken.line).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7]);
    assert_eq!(users.len(), 2);
    let Secret::Stored(stored) = &users[&user("good@example.org")].password else { panic!() };
    assert!(stored.verify("x").unwrap(), "the first line of a user counts");
}

#[test]
fn a_user_with_an_unusable_hash_exists_but_cannot_log_in() {
    let (users, broken) = parsed("ada:{NOPE}abc\nbob:*\ncid:!$6$x$y\ndan::\neve:\n");
    assert_eq!(broken.len(), 1, "a lock is no mistake: {broken:?}");
    assert!(broken[0].reason.contains("NOPE") && !broken[0].reason.contains("abc"));
    assert_eq!(users.len(), 5);
    assert!(users.values().all(|entry| entry.password == Secret::Never));
}

#[test]
fn nopassword_must_be_said() {
    assert_eq!(one("ada:::::::nopassword").password, Secret::Any);
    assert_eq!(one("ada:::::::nopassword=y nologin=no").password, Secret::Any);
    assert_eq!(one("ada:::::::nopassword=n").password, Secret::Never);
}

#[test]
fn a_long_garbage_file_is_read_without_harm() {
    let bytes: Vec<u8> =
        (0..200_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (_, broken) = parse(&bytes, Scheme::Crypt, None);
    assert!(!broken.is_empty());
}

#[test]
fn a_change_of_the_file_is_seen_by_the_next_lookup() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    let write = |name: &str, text: &str| {
        let fs = DiskFs::new();
        let temporary = dir.path().join(name);
        fs.create(&temporary).unwrap().write_at(text.as_bytes(), 0).unwrap();
        fs.rename(&temporary, &path).unwrap();
    };
    let options = PasswdFileOptions { path: path.clone(), default_scheme: Scheme::Crypt };
    let file = PasswdFile::new(options, None, Arc::new(DiskFs::new()));
    assert!(file.lookup(&user("ada")).unwrap_err().0.contains("users"), "not there yet: try again");

    write("one", "ada:{PLAIN}one\n");
    assert!(file.lookup(&user("ada")).unwrap().is_some());
    assert!(file.lookup(&user("bob")).unwrap().is_none());
    assert!(file.serves_scram(ScramDigest::Sha256));

    write("two", "bob:{SSHA}AA\n");
    assert!(file.lookup(&user("ada")).unwrap().is_none());
    assert_eq!(file.users().unwrap(), [user("bob")]);
    assert!(!file.serves_scram(ScramDigest::Sha256));

    DiskFs::new().unlink(&path).unwrap();
    assert!(file.lookup(&user("bob")).is_err(), "a missing file is trouble of ours, not an unknown user");
}
