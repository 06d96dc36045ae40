//! Ways between processes on one machine that can be cut: each carries the bytes of its connections, or holds them back
//! as a network does that drops every packet.
//!
//! Invariants
//! - What is held back arrives in order, once, when the way is open again; a connection never breaks by a cut.
//! - A way from one process to another is cut by itself: the other direction of calls has its own.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const PIECE: usize = 64 * 1024;
/// Between two looks at whether the way is over.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passing {
    Open,
    Cut,
    /// Nothing passes any more, and connections end.
    Over,
}

#[derive(Debug)]
struct Gate {
    passing: Mutex<Passing>,
    changed: Condvar,
    accepting: AtomicBool,
}

impl Gate {
    fn passing(&self) -> MutexGuard<'_, Passing> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, to: Passing) {
        *self.passing() = to;
        self.changed.notify_all();
    }

    /// Waits while the way is cut. False: it is over.
    fn wait(&self) -> bool {
        let mut passing = self.passing();
        while *passing == Passing::Cut {
            passing = self.changed.wait(passing).unwrap_or_else(PoisonError::into_inner);
        }
        *passing == Passing::Open
    }
}

/// One way to one address.
#[derive(Debug)]
pub struct Way {
    from: SocketAddr,
    gate: Arc<Gate>,
    accepting: Option<JoinHandle<()>>,
}

impl Way {
    /// Whoever connects to `from` reaches `to`.
    pub fn open(from: SocketAddr, to: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(from)?;
        let from = listener.local_addr()?;
        let gate = Arc::new(Gate {
            passing: Mutex::new(Passing::Open),
            changed: Condvar::new(),
            accepting: AtomicBool::new(true),
        });
        let ours = Arc::clone(&gate);
        let accepting = std::thread::spawn(move || accept(&listener, to, &ours));
        Ok(Self { from, gate, accepting: Some(accepting) })
    }

    pub fn address(&self) -> SocketAddr {
        self.from
    }

    pub fn cut(&self) {
        self.gate.set(Passing::Cut);
    }

    pub fn heal(&self) {
        self.gate.set(Passing::Open);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.gate.accepting.store(false, Ordering::Release);
        self.gate.set(Passing::Over);
        // Wakes whoever waits for the next connection.
        drop(TcpStream::connect_timeout(&self.from, LOOK));
        if let Some(accepting) = self.accepting.take() {
            let _ended = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, to: SocketAddr, gate: &Arc<Gate>) {
    for stream in listener.incoming() {
        if !gate.accepting.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let gate = Arc::clone(gate);
        std::thread::spawn(move || carry(stream, to, &gate));
    }
}

/// Carries one connection, both directions of it, until either end closes it.
fn carry(here: TcpStream, to: SocketAddr, gate: &Arc<Gate>) {
    if !gate.wait() {
        return;
    }
    // Nobody there: the caller's connection ends, as it would by itself.
    let Ok(there) = TcpStream::connect(to) else { return };
    let copies = (here.try_clone(), there.try_clone());
    let (Ok(here_too), Ok(there_too)) = copies else { return };
    for stream in [&here, &there] {
        let set = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(LOOK)));
        if set.is_err() {
            return;
        }
    }
    let gate_too = Arc::clone(gate);
    let back = std::thread::spawn(move || pump(there_too, here_too, &gate_too));
    pump(here, there, gate);
    let _ended = back.join();
}

fn pump(mut from: TcpStream, mut to: TcpStream, gate: &Gate) {
    let mut piece = vec![0; PIECE];
    loop {
        let count = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if is_pause(&error) => {
                if *gate.passing() == Passing::Over {
                    break;
                }
                continue;
            }
            Err(_) => break,
        };
        if !gate.wait() || to.write_all(piece.get(..count).unwrap_or_default()).is_err() {
            break;
        }
    }
    // A cut hides that one end is gone, too.
    gate.wait();
    for stream in [&from, &to] {
        let _gone = stream.shutdown(Shutdown::Both);
    }
}

fn is_pause(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    [Interrupted, TimedOut, WouldBlock].contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn a_way_carries_holds_back_and_carries_on() {
        let listener = TcpListener::bind(loopback()).unwrap();
        let way = Way::open(loopback(), listener.local_addr().unwrap()).unwrap();
        let mut client = TcpStream::connect(way.address()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut heard = [0; 3];
        client.write_all(b"one").unwrap();
        server.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"one");
        way.cut();
        client.write_all(b"two").unwrap();
        server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(is_pause(&server.read(&mut heard).unwrap_err()), "nothing passes");
        way.heal();
        server.set_read_timeout(None).unwrap();
        server.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"two");
        server.write_all(b"ok!").unwrap();
        client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"ok!");
        drop(way);
        assert_eq!(client.read(&mut heard).unwrap_or(0), 0, "it ends with the way");
    }
}
