//! J1: once a witness was accepted under an epoch, none is under an older one.

use model::Epoch;

pub fn check(accepted: &[Epoch]) -> Result<(), String> {
    match accepted.windows(2).find(|pair| pair[0] > pair[1]) {
        Some(pair) => Err(format!("epochs_rise (J1): epoch {} was accepted after {}", pair[1], pair[0])),
        None => Ok(()),
    }
}
