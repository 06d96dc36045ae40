//! J6 across owners: whoever was shown a record by one owner is never shown less by another: one whose lease is over
//! answers no read (L-LE1). (Within one owner it is `reads_go_forward`.)

/// `seen` is the last record that somebody was shown before the read began; `answer` what the read showed, if it was
/// answered.
pub fn check(seen: u64, answer: Option<u64>) -> Result<(), String> {
    match answer {
        Some(shown) if shown < seen => {
            Err(format!("J6: an owner that was deposed shows record {shown}, after record {seen} was shown"))
        }
        Some(_) | None => Ok(()),
    }
}
