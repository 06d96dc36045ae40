//! J6 across owners: whoever was shown a record by one owner is never shown less by another: one whose lease is over
//! answers no read (L-LE1). (Within one owner it is `reads_go_forward`.)
//!
//! A machine that its host suspended does not count the time. Its lease holds for what is left of it when it goes
//! on, until it hears that its session is over: that is the gap which J6 allows.

/// `seen` is the last record that somebody was shown before the read; `shown` what the read shows. `was_suspended`: the
/// owner's machine was, since its lease was last renewed.
pub fn check(seen: u64, shown: u64, was_suspended: bool) -> Result<(), String> {
    if shown < seen && !was_suspended {
        return Err(format!(
            "J6: an owner that was deposed shows record {shown}, after record {seen} was shown"
        ));
    }
    Ok(())
}
