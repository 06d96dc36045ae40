//! J7: when nothing is in the way any more, the account takes a change within fifteen seconds.

const WITHIN_US: u64 = 15_000_000;

pub fn check(calm_since_us: u64, taken_us: u64) -> Result<(), String> {
    let waited_us = taken_us.saturating_sub(calm_since_us);
    if waited_us > WITHIN_US {
        return Err(format!("J7: the account takes a change only after {waited_us} us"));
    }
    Ok(())
}
