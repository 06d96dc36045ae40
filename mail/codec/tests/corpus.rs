//! The fuzz targets' seed corpus, and random changes of it, through the same functions.

use std::path::Path;

use codec::exercise;

/// Mutations tried of each seed.
const MUTATIONS: usize = 300;

#[test]
fn pop3_keeps_its_promises_on_the_corpus() {
    run("pop3", exercise::pop3);
}

#[test]
fn lmtp_keeps_its_promises_on_the_corpus() {
    run("lmtp", exercise::lmtp);
}

#[test]
fn imap_keeps_its_promises_on_the_corpus() {
    run("imap", exercise::imap);
}

#[test]
fn messages_keep_their_promises_on_the_corpus() {
    run("message", exercise::message);
}

fn run(target: &str, exercise: fn(&[u8])) {
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "no corpus for {target}");
    // A constant, so that a failure comes back with the same command.
    let mut random = Random(0x5eed_0fca_11ed_f00d);
    for seed in &seeds {
        exercise(seed);
        for _ in 0..MUTATIONS {
            let mutated = mutate(seed, &seeds, &mut random);
            let outcome = std::panic::catch_unwind(|| exercise(&mutated));
            assert!(outcome.is_ok(), "{target} failed on {:?}", String::from_utf8_lossy(&mutated));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test reads its own data")]
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .expect("the corpus is in the tree")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a seed is a file")).collect()
}

/// xorshift64
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

fn mutate(seed: &[u8], seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const PIECES: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"\r",
        b".",
        b"\r\n.\r\n",
        b"--",
        b"\0",
        b"\xff",
        b"(",
        b")",
        b"\"",
        b"\\",
        b" ",
        b"*",
        b"[",
        b"]",
        b"&",
        b"{3}\r\n",
        b"{3+}\r\n",
        b"{99999999999999999999+}\r\n",
        b"NOT ",
        b"OR ",
        b"4294967295",
    ];
    let mut data = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len() + 1);
        match random.below(5) {
            0 => data.truncate(at),
            1 => drop(data.splice(at..(at + random.below(8)).min(data.len()), [])),
            2 => drop(data.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
            3 => {
                let other = &seeds[random.below(seeds.len())];
                data.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
            _ => {
                if let Some(byte) = data.get_mut(at) {
                    *byte = random.below(256) as u8;
                }
            }
        }
    }
    data
}
