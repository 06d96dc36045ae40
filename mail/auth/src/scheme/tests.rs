use super::*;

fn matches(password: &str, stored: &str) -> bool {
    let wrong = verify("Secret", stored, Scheme::Crypt).unwrap();
    assert!(!wrong, "{stored} takes a wrong password");
    verify(password, stored, Scheme::Crypt).unwrap()
}

#[test]
fn hashes_that_other_programs_made_are_accepted() {
    for stored in [
        // glibc and libxcrypt crypt(3), with and without Dovecot's prefix.
        "$6$saltstring$AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz.",
        "{SHA512-CRYPT}$6$rounds=10000$saltstring$8BTo06G/5FoSytD1T0cp9b6u1/eLMbXRWR32saoSVCPI8HactmA7e1cC6THh4kpvGWDoPyAxOz2Ig8bq3eay//",
        "{SHA256-CRYPT}$5$saltstring$C3o4O1TC6aRHF4FI.QSZMXtHbaj2gSXr4sUc/3NcUi.",
        "{CRYPT}$5$saltstring$C3o4O1TC6aRHF4FI.QSZMXtHbaj2gSXr4sUc/3NcUi.",
        "{BLF-CRYPT}$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
        "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
        // Digests by an independent implementation.
        "{SSHA512}aCu7JRc+kLsuEmFs1zTY+AiP7DSGnjjG+dH28Dp+E5usqoAixeTPihKqZmkWal4mUfp63tqvCAkFV1LKTDFH6XNhbHRzYWx0",
        "{SSHA256}oBmrdHcA6OZEkkCLeXh71YAerbvhXz1qqwjrPsXmEtNzYWx0c2FsdA==",
        "{SSHA}1G904nLkTkGWjKNnQuB/hpWXC/hzYWx0c2FsdA==",
        "{SMD5}VAfQ6nCkaw9o3u+x706wnXNhbHRzYWx0",
        "{SHA512}vSsar3708Jvp9Szi2NWZZ02Bqp1qRCFpbcTZPdBhnWgs5WtNZKnvCXdhztmeD2cmW192CF5bDufKRpayrW/isg==",
        "{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=",
        "{SHA256}2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
        "{SHA256.hex}2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
        "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
        "{sha1.b64}5en6G6MezRroT3XKqkdPOmY/BfQ=",
        "{LDAP-MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ==",
        "{PLAIN-MD5}5ebe2294ecd0e0f08eab7690d2a6ee69",
        "{MD5}5ebe2294ecd0e0f08eab7690d2a6ee69",
        "{PBKDF2}$1$saltsalt$5000$9d0487892cf650c51cd61d0b11d60b9c5114b27e",
        "{PLAIN}secret",
        "{CLEARTEXT}secret",
        "{PLAIN.b64}c2VjcmV0",
        "{PLAIN.hex}736563726574",
    ] {
        assert!(matches("secret", stored), "{stored}");
    }
}

#[test]
fn argon2_hashes_of_the_reference_implementation_are_accepted() {
    for stored in [
        "{ARGON2ID}$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8",
    ] {
        assert!(verify("password", stored, Scheme::Crypt).unwrap(), "{stored}");
        assert!(!verify("Password", stored, Scheme::Crypt).unwrap(), "{stored}");
    }
}

#[test]
fn scram_keys_of_rfc_7677_take_the_plain_password_too() {
    let stored = "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,\
                  WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    assert!(verify("pencil", stored, Scheme::Crypt).unwrap());
    assert!(!verify("pen", stored, Scheme::Crypt).unwrap());
}

#[test]
fn every_scheme_takes_back_what_it_hashed() {
    for scheme in Scheme::all() {
        let stored = hash(scheme, "pässword with spaces").unwrap();
        assert!(verify("pässword with spaces", &stored, Scheme::Crypt).unwrap(), "{stored}");
        assert!(!verify("pässword with space", &stored, Scheme::Crypt).unwrap(), "{stored}");
        let again = hash(scheme, "pässword with spaces").unwrap();
        let salted = !matches!(
            scheme,
            Scheme::Sha512
                | Scheme::Sha256
                | Scheme::Sha
                | Scheme::LdapMd5
                | Scheme::PlainMd5
                | Scheme::Plain
        );
        assert_eq!(stored != again, salted, "{stored}");
    }
}

#[test]
fn a_hash_that_asks_for_absurd_work_is_refused_at_once() {
    for stored in [
        "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$argon2id$v=19$m=1024,t=4294967295,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$2y$31$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
        "$6$rounds=999999999$saltstring$AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz.",
        "{PBKDF2}$1$saltsalt$4000000000$9d0487892cf650c51cd61d0b11d60b9c5114b27e",
        "{SCRAM-SHA-256}4000000000,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
    ] {
        let error = verify("secret", stored, Scheme::Crypt).unwrap_err();
        assert!(matches!(error, SchemeError::TooCostly(_)), "{stored}: {error}");
    }
}

#[test]
fn a_broken_hash_is_an_error_and_never_a_match() {
    for stored in [
        "",
        "x",
        "!",
        "*",
        "{",
        "{}",
        "{}x",
        "{NOPE}x",
        "{SSHA512}",
        "{SSHA512}AAAA",
        "{SHA256}é",
        "{SHA.hex}zz",
        "{PLAIN.hex}f",
        "{PLAIN.hex}ff",
        "$6$",
        "$6$salt",
        "$6$rounds=x$salt$hash",
        "$2y$",
        "$2y$aa$x",
        "$2x$05$abc",
        "$argon2id$",
        "$argon2id$v=19$m=1,t=0,p=0$AA$AA",
        "$argon2id$v=19$m=64,t=1,p=1$$",
        "{PBKDF2}$1$a$0$00",
        "{PBKDF2}$1$a$1$zz",
        "{SCRAM-SHA-256}1,2,3",
        "{SCRAM-SHA-256}0,,,",
        "{ARGON2ID}plain",
        "{BLF-CRYPT}$6$a$b",
        "$1$abcdefgh$G//4keteveJp0qb8z2DxG/",
    ] {
        assert!(verify("x", stored, Scheme::Crypt).is_err(), "{stored}");
    }
    assert!(verify("x", &"a".repeat(HASH_BYTES_MAX + 1), Scheme::Plain).is_err());
}

#[test]
fn passwords_that_no_scheme_can_hold_never_match() {
    assert!(!verify("", "{PLAIN}", Scheme::Crypt).unwrap());
    assert!(!verify("a\0b", "{PLAIN}a\0b", Scheme::Crypt).unwrap());
    let long = "a".repeat(PASSWORD_BYTES_MAX + 1);
    assert!(!verify(&long, &format!("{{PLAIN}}{long}"), Scheme::Crypt).unwrap());
    assert_eq!(hash(Scheme::Plain, "").unwrap_err(), SchemeError::Password);
    assert_eq!(hash(Scheme::Bcrypt, "a\0b").unwrap_err(), SchemeError::Password);
}

#[test]
fn debug_output_shows_no_hash() {
    let stored = Stored::parse("{PLAIN}secret", Scheme::Crypt).unwrap();
    assert!(!format!("{stored:?}").contains("secret"));
}
