//! What an account takes in memory. Alone in its process, so that nothing else is measured.

#[path = "../examples/accounts/filled.rs"]
mod filled;

use filled::{Filled, resident_bytes};

#[test]
fn an_account_takes_less_than_100_bytes() {
    const ACCOUNTS: u64 = 200_000;
    let mut filled = Filled::founded();
    let before = resident_bytes();
    assert_eq!(filled.witness(0..ACCOUNTS, 1), ACCOUNTS);
    let taken = resident_bytes().saturating_sub(before);
    assert_eq!(filled.state.witness_count() as u64, ACCOUNTS);
    assert!(taken > 0, "the kernel says what is resident");
    assert!(taken < 100 * ACCOUNTS, "{} bytes an account", taken / ACCOUNTS);
}
