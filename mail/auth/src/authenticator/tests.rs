use std::path::Path;

use nfs_compat::DiskFs;

use super::*;
use crate::scheme::{ScramDigest, ScramKeys};

struct Site {
    auth: Authenticator,
    _dir: tempfile::TempDir,
}

const USERS: &str = "\
ada@example.org:{SSHA}1G904nLkTkGWjKNnQuB/hpWXC/hzYWx0c2FsdA==:::::: userdb_quota_rule=*:storage=1G\n\
grace@example.org:{PLAIN}secret::::/srv/grace\n\
off@example.org:{PLAIN}secret::::::nologin\n\
near@example.org:{PLAIN}secret::::::allow_nets=192.0.2.0/24\n\
locked@example.org:!\n";

fn site_with(users: &str, change: impl FnOnce(&mut Options)) -> Site {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    DiskFs::new().create(&path).unwrap().write_at(users.as_bytes(), 0).unwrap();
    let mut options = Options {
        passdbs: vec![PassdbOptions::PasswdFile(PasswdFileOptions { path, default_scheme: Scheme::Crypt })],
        default_realm: Some("example.org".to_owned()),
        ..Options::default()
    };
    change(&mut options);
    Site { auth: Authenticator::new(options, Arc::new(DiskFs::new())).unwrap(), _dir: dir }
}

fn site() -> Site {
    site_with(USERS, |_| {})
}

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
fn start() -> Instant {
    Instant::now()
}

fn from(remote: &str) -> Facts {
    Facts { service: "imap", remote: remote.parse().unwrap(), tls: true }
}

async fn login(site: &Site, user: &str, password: &str) -> Outcome {
    site.auth.login(user, &Password::new(password), &from("198.51.100.1"), start()).await.outcome
}

fn user_of(outcome: Outcome) -> Option<String> {
    match outcome {
        Outcome::Ok(record) => Some(record.user.to_string()),
        Outcome::BadCredentials
        | Outcome::Disabled
        | Outcome::TemporaryFailure(_)
        | Outcome::PlaintextForbidden => None,
    }
}

#[tokio::test]
async fn a_right_password_gives_the_user_in_canonical_form() {
    let site = site();
    assert_eq!(user_of(login(&site, "Ada", "secret").await).as_deref(), Some("ada@example.org"));
    let Outcome::Ok(record) = login(&site, "grace@EXAMPLE.org", "secret").await else { panic!() };
    assert_eq!(record.home.as_deref(), Some(Path::new("/srv/grace")));
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_user_are_answered_alike() {
    let site = site();
    for (user, password) in [
        ("ada", "Secret"),
        ("nobody", "secret"),
        ("../ada", "secret"),
        ("", "secret"),
        ("ada", ""),
        ("locked", "!"),
        ("locked", "nobody's"),
        ("nobody", "nobody's"),
        ("near", "secret"),
        ("a\0b", "x"),
    ] {
        assert_eq!(login(&site, user, password).await, Outcome::BadCredentials, "{user:?} {password:?}");
    }
    assert_eq!(site.auth.counters().failed, 10);
}

#[tokio::test]
async fn nologin_and_allow_nets_are_kept() {
    let site = site();
    assert_eq!(login(&site, "off", "secret").await, Outcome::Disabled);
    assert_eq!(
        login(&site, "off", "wrong").await,
        Outcome::BadCredentials,
        "only who knows the password is told"
    );
    let near = site.auth.login("near", &Password::new("secret"), &from("192.0.2.9"), start()).await;
    assert!(matches!(near.outcome, Outcome::Ok(_)));
}

#[tokio::test]
async fn failures_slow_the_address_down_until_one_succeeds() {
    let site = site();
    let (now, facts) = (start(), from("198.51.100.1"));
    let attempt =
        async |password: &str| site.auth.login("grace", &Password::new(password), &facts, now).await.delay;
    assert_eq!(attempt("secret").await, Duration::ZERO);
    assert_eq!(attempt("wrong").await, Duration::from_secs(2));
    assert_eq!(attempt("wrong").await, Duration::from_secs(4));
    assert_eq!(site.auth.counters().penalised_addresses, 1);
    assert_eq!(attempt("secret").await, Duration::from_secs(4));
    assert_eq!(attempt("secret").await, Duration::ZERO);
    assert_eq!((site.auth.counters().succeeded, site.auth.counters().failed), (3, 2));
}

#[tokio::test]
async fn a_password_crosses_the_wire_without_tls_only_where_the_policy_lets_it() {
    for (policy, remote, tls, allowed) in [
        (Plaintext::Never, "127.0.0.1", false, false),
        (Plaintext::Never, "192.0.2.1", true, true),
        (Plaintext::Loopback, "127.0.0.1", false, true),
        (Plaintext::Loopback, "::1", false, true),
        (Plaintext::Loopback, "192.0.2.1", false, false),
        (Plaintext::Always, "192.0.2.1", false, true),
    ] {
        let site = site_with(USERS, |options| options.plaintext_without_tls = policy);
        let facts = Facts { tls, ..from(remote) };
        let checked = site.auth.login("grace", &Password::new("secret"), &facts, start()).await;
        assert_eq!(matches!(checked.outcome, Outcome::Ok(_)), allowed, "{policy:?} {remote} {tls}");
        let offered = site.auth.mechanisms(tls, facts.remote.is_loopback());
        assert_eq!(offered.contains(&"PLAIN"), allowed);
        let begun = site.auth.begin("PLAIN", Some(b"\0grace\0secret"), facts, start()).await;
        let Some((_, Progress::Finished(checked))) = begun else { panic!() };
        assert_eq!(checked.outcome != Outcome::PlaintextForbidden, allowed);
    }
}

#[tokio::test]
async fn scram_is_offered_only_while_every_user_can_use_it() {
    let mixed = site();
    assert_eq!(mixed.auth.mechanisms(true, false), ["PLAIN", "LOGIN"]);
    let keys = scheme::hash(Scheme::ScramSha256, "secret").unwrap();
    let all = site_with(&format!("ada:{keys}\ngrace:{{PLAIN}}secret\nlocked:!\n"), |_| {});
    assert_eq!(all.auth.mechanisms(true, false), ["PLAIN", "LOGIN", "SCRAM-SHA-256"]);
    assert_eq!(all.auth.mechanisms(false, false), ["SCRAM-SHA-256"]);
}

#[tokio::test]
async fn a_mechanism_that_is_not_configured_does_not_begin() {
    let site = site_with(USERS, |options| options.mechanisms = vec![Mechanism::Plain]);
    assert!(site.auth.begin("LOGIN", None, from("192.0.2.1"), start()).await.is_none());
    assert!(site.auth.begin("NTLM", None, from("192.0.2.1"), start()).await.is_none());
    assert!(site.auth.begin("plain", None, from("192.0.2.1"), start()).await.is_some());
}

/// Speaks the client's side of SCRAM-SHA-256.
async fn scram(site: &Site, user: &str, password: &str) -> (String, Checked) {
    let (bare, now) = (format!("n={user},r=clientnonce"), start());
    let first = format!("n,,{bare}");
    let begun = site.auth.begin("SCRAM-SHA-256", Some(first.as_bytes()), from("198.51.100.1"), now).await;
    let Some((mut exchange, Progress::Challenge(challenge))) = begun else { panic!() };
    let server_first = String::from_utf8(challenge).unwrap();
    let attributes: Vec<&str> = server_first.split(',').map(|attribute| &attribute[2..]).collect();
    let salt = codec::sasl::decode_response(attributes[1].as_bytes()).unwrap();
    let iterations = attributes[2].parse().unwrap();

    let digest = ScramDigest::Sha256;
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<sha2::Sha256>(password.as_bytes(), &salt, iterations, &mut salted);
    let client_key = digest.hmac(&salted, b"Client Key");
    let without_proof = format!("c=biws,r={}", attributes[0]);
    let message = format!("{bare},{server_first},{without_proof}");
    let signature = digest.hmac(&digest.digest(&client_key), message.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, sign)| key ^ sign).collect();
    let last = format!("{without_proof},p={}", codec::sasl::encode_challenge(&proof));
    let salt = attributes[1].to_owned();
    match site.auth.step(&mut exchange, last.as_bytes(), now).await {
        Progress::Finished(checked) => (salt, checked),
        Progress::Challenge(challenge) => {
            let keys = ScramKeys::derive(
                digest,
                password.as_bytes(),
                &codec::sasl::decode_response(salt.as_bytes()).unwrap(),
                iterations,
            );
            let verifier = digest.hmac(&keys.server_key, message.as_bytes());
            assert_eq!(challenge, codec::sasl::scram_server_final(&verifier).into_bytes());
            let Progress::Finished(checked) = site.auth.step(&mut exchange, b"", now).await else { panic!() };
            (salt, checked)
        }
    }
}

#[tokio::test]
async fn scram_lets_in_who_knows_the_password() {
    let keys = scheme::hash(Scheme::ScramSha256, "secret").unwrap();
    let site = site_with(&format!("{USERS}keys:{keys}\n"), |_| {});
    assert_eq!(
        user_of(scram(&site, "grace", "secret").await.1.outcome).as_deref(),
        Some("grace@example.org")
    );
    assert_eq!(user_of(scram(&site, "Keys", "secret").await.1.outcome).as_deref(), Some("keys@example.org"));
    assert_eq!(scram(&site, "grace", "wrong").await.1.outcome, Outcome::BadCredentials);
    assert_eq!(scram(&site, "off", "secret").await.1.outcome, Outcome::Disabled);
    assert_eq!(scram(&site, "near", "secret").await.1.outcome, Outcome::BadCredentials);
    assert_eq!(
        scram(&site, "ada", "secret").await.1.outcome,
        Outcome::BadCredentials,
        "SSHA cannot serve SCRAM"
    );
}

/// (RFC 5802 §9)
#[tokio::test]
async fn scram_shows_an_unknown_user_the_same_salt_each_time() {
    let site = site();
    for user in ["nobody", "grace", "ada", "../x"] {
        let (first, second) = (scram(&site, user, "x").await.0, scram(&site, user, "x").await.0);
        assert_eq!(first, second, "{user}");
        assert_eq!(first.len(), 24);
    }
    assert_ne!(scram(&site, "nobody", "x").await.0, scram(&site, "noone", "x").await.0);
}

#[tokio::test]
async fn lookups_and_lists_need_no_password() {
    let site = site();
    assert_eq!(site.auth.lookup("ADA").await.unwrap().unwrap().extra["userdb_quota_rule"], "*:storage=1G");
    assert!(site.auth.lookup("off@example.org").await.unwrap().is_some(), "nologin still gets mail");
    assert!(site.auth.lookup("nobody").await.unwrap().is_none());
    assert!(site.auth.lookup("../ada").await.unwrap().is_none());
    assert_eq!(site.auth.users().await.unwrap().len(), 5);
}

#[tokio::test]
async fn an_unreadable_user_database_is_trouble_of_ours() {
    let site = site_with(USERS, |options| {
        options.passdbs = vec![PassdbOptions::PasswdFile(PasswdFileOptions {
            path: "/nonexistent/users".into(),
            default_scheme: Scheme::Crypt,
        })];
    });
    assert!(
        matches!(login(&site, "ada", "secret").await, Outcome::TemporaryFailure(reason) if reason.contains("users"))
    );
    assert!(site.auth.lookup("ada").await.is_err());
    assert_eq!(site.auth.counters().penalised_addresses, 0, "it is not the client's fault");
}

#[tokio::test]
async fn the_first_database_that_knows_the_user_decides() {
    let site = site_with(USERS, |options| {
        let everybody = FixedOptions { password: "{PLAIN}master".to_owned(), users: Vec::new() };
        options.passdbs.push(PassdbOptions::Static(everybody));
    });
    assert!(matches!(login(&site, "stranger", "master").await, Outcome::Ok(_)));
    assert_eq!(login(&site, "grace", "master").await, Outcome::BadCredentials);
    let listed = FixedOptions { password: "pw".to_owned(), users: vec!["bob".to_owned(), "a b".to_owned()] };
    let site = site_with("", |options| options.passdbs = vec![PassdbOptions::Static(listed)]);
    assert!(matches!(login(&site, "bob", "pw").await, Outcome::Ok(_)));
    assert_eq!(login(&site, "stranger", "pw").await, Outcome::BadCredentials);
    assert_eq!(site.auth.users().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_logins_is_bounded_and_told_to_try_again() {
    let site = site_with(USERS, |options| {
        (options.verifications_max, options.verifications_waiting_max) = (1, 4);
    });
    let auth = Arc::new(site.auth);
    let attempts = (0..40).map(|_| {
        let auth = auth.clone();
        tokio::spawn(async move {
            auth.login("nobody", &Password::new("x"), &from("198.51.100.1"), start()).await.outcome
        })
    });
    let mut outcomes = Vec::new();
    for attempt in attempts.collect::<Vec<_>>() {
        outcomes.push(attempt.await.unwrap());
    }
    let later = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::TemporaryFailure(_))).count();
    assert!((1..40).contains(&later), "{later} of 40");
    assert_eq!(auth.waiting.load(Ordering::Relaxed), 0);
}
