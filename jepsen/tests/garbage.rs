//! Bad input and bad luck, one test a kind; `jepsen garbage` runs them by hand.

use jepsen::server::Setup;
use jepsen::strangers::skip;
use jepsen::workload::garbage::{self, Verdict};

fn survives(case: &str) -> anyhow::Result<()> {
    let setup = Setup::from_environment();
    let test = format!("garbage, {case}");
    if let Some(why) = setup.kind.missing() {
        skip(&test, &why);
        return Ok(());
    }
    match garbage::run(garbage::case(case)?, setup)? {
        Verdict::Passed => {}
        Verdict::Skipped(why) => skip(&test, &why),
    }
    Ok(())
}

macro_rules! cases {
    ($($test:ident: $case:literal,)*) => {
        $(#[test]
        fn $test() -> anyhow::Result<()> {
            survives($case)
        })*

        #[test]
        fn every_case_has_its_test() {
            let tested = [$($case),*];
            let missing: Vec<&str> =
                garbage::CASES.iter().map(|case| case.name).filter(|name| !tested.contains(name)).collect();
            assert_eq!(missing, Vec::<&str>::new());
        }
    };
}

cases! {
    malformed_commands_are_refused: "malformed-commands",
    endless_lines_are_not_kept: "endless-lines",
    literals_announced_too_large_are_refused: "oversize-literals",
    nuls_are_answered: "nuls",
    ten_thousand_parentheses_are_answered: "deep-parentheses",
    names_never_lead_out_of_the_account: "bad-names",
    a_hundred_thousand_recipients_are_answered: "many-recipients",
    mime_ten_thousand_deep_is_kept_as_it_is: "deep-mime",
    a_header_line_of_10_mib_is_kept_as_it_is: "long-header",
    half_open_connections_disturb_nobody: "half-open",
    a_slow_reader_costs_little_and_is_disconnected: "slow-reader",
    a_full_disk_loses_nothing: "full-disk",
    an_unwritable_directory_refuses_for_now: "unwritable-directory",
    a_stepped_clock_disturbs_nothing: "stepped-clock",
    a_message_removed_behind_our_back_is_missed: "message-removed",
    a_garbled_message_hurts_only_itself: "message-garbled",
    a_garbled_index_is_made_anew: "index-garbled",
    a_torn_journal_tail_is_passed_over: "journal-tail-garbled",
    a_garbled_uidlist_changes_no_uid: "uidlist-garbled",
}
