//! Long work: a bar on a terminal, a line every few seconds elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use rpc::admin::Progress;

const BAR_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(5);
const BAR_CHARACTERS: usize = 30;

/// What stands on the terminal.
#[derive(Default)]
pub(crate) struct Display {
    last: Option<Instant>,
    /// The bar is there and must go before anything else is printed.
    drawn: bool,
}

impl Display {
    pub(crate) fn show(&mut self, progress: &Progress, now: Instant) {
        let mut stderr = std::io::stderr();
        let terminal = stderr.is_terminal();
        let every = if terminal { BAR_EVERY } else { LINE_EVERY };
        match self.last {
            Some(last) if now.duration_since(last) < every => return,
            // Work that ends soon prints nothing where lines stay.
            None if !terminal => {
                self.last = Some(now);
                return;
            }
            Some(_) | None => self.last = Some(now),
        }
        // Nobody who could be told is left, if this fails.
        let _ = if terminal {
            self.drawn = true;
            write!(stderr, "\r\x1b[K{}", bar(progress)).and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{}", line(progress))
        };
    }

    /// Takes the bar away.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            // As above.
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(progress: &Progress) -> String {
    let Progress { done, total, unit, label } = progress;
    match total {
        Some(total) => format!("{label}: {done} of {total} {unit}"),
        None => format!("{label}: {done} {unit}"),
    }
}

fn bar(progress: &Progress) -> String {
    let Some(total) = progress.total.filter(|total| *total > 0) else { return line(progress) };
    let done = progress.done.min(total);
    let filled = (u128::from(done) * BAR_CHARACTERS as u128 / u128::from(total)) as usize;
    let percent = u128::from(done) * 100 / u128::from(total);
    format!("[{:-<BAR_CHARACTERS$}] {percent:3}% {}", "#".repeat(filled), line(progress))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_with_what_is_done() {
        let progress =
            Progress { done: 15, total: Some(30), unit: "messages".into(), label: "verify".into() };
        assert_eq!(bar(&progress), "[###############---------------]  50% verify: 15 of 30 messages");
        let unknown = Progress { total: None, ..progress };
        assert_eq!(bar(&unknown), "verify: 15 messages");
    }
}
