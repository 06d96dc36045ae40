//! J5: an owner never serves a state that lacks a witnessed change, however old its view of the volume is.

/// `witnessed` is the last record that the service had accepted when the owner was let in.
pub fn check(witnessed: u64, shown: u64) -> Result<(), String> {
    if shown < witnessed {
        return Err(format!("J5: record {shown} is the last that is served, and {witnessed} was witnessed"));
    }
    Ok(())
}
