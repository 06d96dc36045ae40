//! The admin service over a real socket.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rpc::admin::{
    AdminClient, AdminSocket, BindError, Call, CallError, ConnectError, Event, Events, Handler, Input,
    InputError, Progress, ServeError, serve,
};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{mpsc, oneshot};

/// A few commands that show what a handler can do.
struct Commands {
    /// Where `observe` tells what became of its input.
    observed: mpsc::UnboundedSender<Result<Option<Bytes>, InputError>>,
}

impl Handler for Commands {
    async fn run(&self, call: Call, mut input: Input, events: Events) -> u8 {
        match call.arguments.first().map(String::as_str) {
            Some("echo") => {
                events.stdout(call.arguments[1..].join(" ")).await.expect("listening");
                events.stderr("said").await.expect("listening");
                3
            }
            Some("save") => match input.read_all(64 << 20).await {
                Ok(bytes) => {
                    let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
                    events.stdout(format!("{} {sum}", bytes.len())).await.expect("listening");
                    0
                }
                Err(error) => {
                    events.stderr(error.to_string()).await.expect("listening");
                    75
                }
            },
            Some("big") => {
                events.stdout(vec![b'x'; 9 << 20]).await.expect("listening");
                0
            }
            Some("steps") => {
                for done in 1..=3 {
                    let progress = Progress {
                        done,
                        total: Some(3),
                        unit: "messages".to_owned(),
                        label: "INBOX".to_owned(),
                    };
                    events.progress(progress).await.expect("listening");
                }
                0
            }
            Some("observe") => loop {
                let next = input.next().await;
                let over = !matches!(next, Ok(Some(_)));
                self.observed.send(next).expect("observed");
                if over {
                    return 0;
                }
            },
            Some("follow") => {
                events.stdout("following").await.expect("listening");
                events.hung_up().await;
                self.observed.send(Ok(None)).expect("observed");
                0
            }
            Some("panic") => panic!("as asked"),
            Some(_) | None => 2,
        }
    }
}

struct Running {
    path: PathBuf,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), ServeError>>,
    observed: mpsc::UnboundedReceiver<Result<Option<Bytes>, InputError>>,
    _directory: tempfile::TempDir,
}

async fn running() -> Running {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("admin.sock");
    let socket = AdminSocket::bind(&path, 0o600).await.expect("binds");
    let (sender, observed) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        let _ = stopped.await;
    };
    let ended = tokio::spawn(serve(socket, Arc::new(Commands { observed: sender }), shutdown));
    Running { path, stop, ended, observed, _directory: directory }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

async fn all(path: &Path, line: &str, input: impl AsyncRead + Send + Unpin + 'static) -> Vec<Event> {
    let mut client = AdminClient::connect(path).await.expect("connects");
    let mut replies = client.run(words(line), input).await.expect("starts");
    let mut events = Vec::new();
    while let Some(event) = replies.next().await.expect("goes on") {
        events.push(event);
    }
    events
}

#[tokio::test]
async fn a_command_prints_and_ends_with_its_exit_code() {
    let running = running().await;
    let events = all(&running.path, "echo hello world", tokio::io::empty()).await;
    let expected = [Event::Stdout("hello world".into()), Event::Stderr("said".into()), Event::Finished(3)];
    assert_eq!(events, expected);
    assert_eq!(all(&running.path, "nonsense", tokio::io::empty()).await, [Event::Finished(2)]);
}

#[tokio::test]
async fn progress_arrives_as_it_was_told() {
    let running = running().await;
    let events = all(&running.path, "steps", tokio::io::empty()).await;
    assert_eq!(events.len(), 4);
    let last = Progress { done: 3, total: Some(3), unit: "messages".to_owned(), label: "INBOX".to_owned() };
    assert_eq!(events[2], Event::Progress(last));
}

#[tokio::test]
async fn long_input_and_long_output_pass_in_pieces() {
    let running = running().await;
    let message: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
    let sum: u64 = message.iter().map(|byte| u64::from(*byte)).sum();
    let events = all(&running.path, "save", io::Cursor::new(message)).await;
    assert_eq!(events, [Event::Stdout(format!("20000000 {sum}").into()), Event::Finished(0)]);

    let events = all(&running.path, "big", tokio::io::empty()).await;
    let printed: usize =
        events.iter().map(|event| if let Event::Stdout(bytes) = event { bytes.len() } else { 0 }).sum();
    assert_eq!(printed, 9 << 20);
    assert!(events.len() > 9, "in pieces");
}

/// Input that breaks after its first bytes.
struct Breaking(bool);

impl AsyncRead for Breaking {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(Err(io::Error::other("the disk is gone")));
        }
        buffer.put_slice(b"half a message");
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn input_that_breaks_off_never_looks_like_input_that_ended() {
    let mut running = running().await;
    let events = all(&running.path, "save", Breaking(false)).await;
    let said = "the client could not read its input: the disk is gone";
    assert_eq!(events, [Event::Stderr(said.into()), Event::Finished(75)]);

    // A client that is killed in the middle.
    let (held_open, input) = tokio::io::duplex(64);
    let path = running.path.clone();
    let client = tokio::spawn(async move {
        let mut client = AdminClient::connect(&path).await.expect("connects");
        let mut replies = client.run(words("observe"), input).await.expect("starts");
        replies.next().await.map(drop)
    });
    let mut held_open = held_open;
    tokio::io::AsyncWriteExt::write_all(&mut held_open, b"half").await.expect("writes");
    assert_eq!(running.observed.recv().await, Some(Ok(Some("half".into()))));
    client.abort();
    assert_eq!(running.observed.recv().await, Some(Err(InputError::HungUp)));
}

#[tokio::test]
async fn a_command_learns_that_its_client_hung_up() {
    let mut running = running().await;
    let mut client = AdminClient::connect(&running.path).await.expect("connects");
    let mut replies = client.run(words("follow"), tokio::io::empty()).await.expect("starts");
    assert_eq!(replies.next().await.expect("goes on"), Some(Event::Stdout("following".into())));
    drop(replies);
    drop(client);
    let told = tokio::time::timeout(Duration::from_secs(5), running.observed.recv()).await;
    assert_eq!(told.expect("in time"), Some(Ok(None)));
}

#[tokio::test]
async fn a_command_that_dies_does_not_look_like_success() {
    let running = running().await;
    let mut client = AdminClient::connect(&running.path).await.expect("connects");
    let mut replies = client.run(words("panic"), tokio::io::empty()).await.expect("starts");
    let error = replies.next().await.expect_err("no exit code");
    assert!(matches!(error, CallError::Lost), "{error}");
    assert_eq!(
        all(&running.path, "nonsense", tokio::io::empty()).await,
        [Event::Finished(2)],
        "others go on"
    );
}

#[tokio::test]
async fn another_version_is_told_so_in_words() {
    let running = running().await;
    let mut client = AdminClient::connect(&running.path).await.expect("connects");
    let Err(error) = client.run_as(99, words("echo"), tokio::io::empty()).await else { panic!("understood") };
    assert!(matches!(error, CallError::Version(_)));
    let said = error.to_string();
    assert!(said.contains("version 1") && said.contains("version 99") && said.contains("restart"), "{said}");
}

#[tokio::test]
async fn running_commands_end_before_the_server_does_and_the_name_goes_with_it() {
    let mut running = running().await;
    let (mut held_open, input) = tokio::io::duplex(64);
    let mut client = AdminClient::connect(&running.path).await.expect("connects");
    let mut replies = client.run(words("observe"), input).await.expect("starts");
    tokio::io::AsyncWriteExt::write_all(&mut held_open, b"a").await.expect("writes");
    assert_eq!(running.observed.recv().await, Some(Ok(Some("a".into()))));
    running.stop.send(()).expect("serving");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!running.ended.is_finished());
    drop(held_open);
    assert_eq!(replies.next().await.expect("goes on"), Some(Event::Finished(0)));
    drop(replies);
    drop(client);
    let ended = tokio::time::timeout(Duration::from_secs(5), running.ended).await.expect("in time");
    ended.expect("no panic").expect("cleanly");
    assert!(!running.path.exists());
    let error = AdminClient::connect(&running.path).await.err().expect("nobody there");
    assert!(matches!(error, ConnectError::NoSocket(_)), "{error}");
}

#[tokio::test]
async fn only_the_owner_may_use_the_socket_unless_told_otherwise() {
    let directory = tempfile::tempdir().expect("a directory");
    for mode in [0o600, 0o660] {
        let path = directory.path().join("admin.sock");
        let socket = AdminSocket::bind(&path, mode).await.expect("binds");
        let found = path.symlink_metadata().expect("is there");
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, mode);
        assert_eq!(socket.path(), path);
    }
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
    let running = running().await;
    let error = AdminSocket::bind(&running.path, 0o600).await.expect_err("somebody answers");
    assert!(matches!(error, BindError::InUse(_)), "{error}");
    assert_eq!(
        all(&running.path, "nonsense", tokio::io::empty()).await,
        [Event::Finished(2)],
        "and still does"
    );

    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("admin.sock");
    // What a killed server leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
    assert!(path.exists());
    let error = AdminClient::connect(&path).await.err().expect("nobody answers");
    assert!(matches!(error, ConnectError::NobodyAnswers(_)), "{error}");
    let replaced = AdminSocket::bind(&path, 0o600).await.expect("stale");
    drop(replaced);
    assert!(!path.exists());
}

#[tokio::test]
async fn what_is_not_a_socket_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("mail");
    std::os::unix::fs::symlink("/nonexistent", &path).expect("links");
    let error = AdminSocket::bind(&path, 0o600).await.expect_err("not a socket");
    assert!(matches!(error, BindError::NotASocket(_)), "{error}");
    assert!(path.symlink_metadata().is_ok());

    let long = directory.path().join("x".repeat(120));
    let error = AdminSocket::bind(&long, 0o600).await.expect_err("too long");
    assert!(matches!(error, BindError::TooLong(_)), "{error}");
    let nowhere = directory.path().join("no/such/directory");
    let error = AdminSocket::bind(&nowhere, 0o600).await.expect_err("no directory");
    assert!(matches!(error, BindError::Failed { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_was_replaced_does_not_remove_its_successors_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("admin.sock");
    let old = AdminSocket::bind(&path, 0o600).await.expect("binds");
    #[expect(clippy::disallowed_methods, reason = "an operator's mv")]
    std::fs::rename(&path, directory.path().join("moved")).expect("moves");
    let _new = AdminSocket::bind(&path, 0o600).await.expect("binds");
    drop(old);
    assert!(path.exists());
}
