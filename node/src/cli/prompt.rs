//! Passwords, asked for without showing them.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use super::exit::{Failure, complain};

/// Asks on the terminal. Where there is none, the password is the first line of standard input.
pub(crate) fn password(question: &str) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    let hidden = if stdin.is_terminal() { Some(Hidden::begin()?) } else { None };
    if hidden.is_some() {
        let mut stderr = std::io::stderr();
        write!(stderr, "{question}")?;
        stderr.flush()?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if hidden.is_some() {
        complain("");
    }
    drop(hidden);
    if read? == 0 {
        return Err(Failure::usage("no password was given"));
    }
    let password = line.strip_suffix('\n').unwrap_or(&line);
    Ok(password.strip_suffix('\r').unwrap_or(password).to_owned())
}

/// The terminal does not echo while this lives.
struct Hidden {
    before: Termios,
}

impl Hidden {
    fn begin() -> Result<Self, Failure> {
        let failed =
            |error: nix::Error| Failure::usage(format!("the terminal cannot hide a password: {error}"));
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(std::io::stdin(), SetArg::TCSAFLUSH, &silent).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that has gone needs no echo.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSAFLUSH, &self.before);
    }
}
