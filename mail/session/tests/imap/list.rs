//! LIST, LSUB and their extensions.

use model::{MailboxName, SpecialUse};

use crate::script::{check, check_in};
use crate::world::World;

fn world() -> World {
    let mut world = World::new();
    for name in ["Archive/2024", "Archive/2025", "Entw\u{fc}rfe", "Sent"] {
        world.create(name);
    }
    world.mailbox("Sent").special_use = Some(SpecialUse::Sent);
    for name in ["Archive/2024", "Gone/Deep", "INBOX"] {
        world.subscriptions.insert(MailboxName::new(name).unwrap());
    }
    world
}

#[test]
fn list_shows_mailboxes_their_parents_and_their_purposes() {
    check_in(
        &mut world(),
        "
        C: a LIST \"\" *
        S: * LIST (\\Noselect \\HasChildren) \"/\" \"Archive\"
        S: * LIST (\\HasNoChildren) \"/\" \"Archive/2024\"
        S: * LIST (\\HasNoChildren) \"/\" \"Archive/2025\"
        S: * LIST (\\HasNoChildren) \"/\" \"Entw&APw-rfe\"
        S: * LIST (\\HasNoChildren) \"/\" \"INBOX\"
        S: * LIST (\\HasNoChildren \\Sent) \"/\" \"Sent\"
        S: a OK List completed
        C: b LIST \"\" %
        S: * LIST (\\Noselect \\HasChildren) \"/\" \"Archive\"
        S: * LIST ... \"Entw&APw-rfe\"
        S: * LIST ... \"INBOX\"
        S: * LIST ... \"Sent\"
        S: b OK List completed
        C: c LIST Archive/ %
        S: * LIST ... \"Archive/2024\"
        S: * LIST ... \"Archive/2025\"
        S: c OK List completed
        C: d LIST \"\" inbox
        S: * LIST (\\HasNoChildren) \"/\" \"INBOX\"
        S: d OK List completed
        C: e LIST \"\" \"\"
        S: * LIST (\\Noselect) \"/\" \"\"
        S: e OK List completed
        C: f LIST \"\" Entw&APw-*
        S: * LIST ... \"Entw&APw-rfe\"
        S: f OK List completed
        ",
    );
}

#[test]
fn lsub_shows_names_and_for_percent_the_levels_above_them() {
    check_in(
        &mut world(),
        "
        C: a LSUB \"\" *
        S: * LSUB () \"/\" \"Archive/2024\"
        S: * LSUB () \"/\" \"Gone/Deep\"
        S: * LSUB () \"/\" \"INBOX\"
        S: a OK Lsub completed
        C: b LSUB \"\" %
        S: * LSUB (\\Noselect) \"/\" \"Archive\"
        S: * LSUB (\\Noselect) \"/\" \"Gone\"
        S: * LSUB () \"/\" \"INBOX\"
        S: b OK Lsub completed
        C: c UNSUBSCRIBE Gone/Deep
        S: c OK Unsubscribed
        C: d SUBSCRIBE Sent
        S: d OK Subscribed
        C: e LSUB \"\" *
        S: * LSUB () \"/\" \"Archive/2024\"
        S: * LSUB () \"/\" \"INBOX\"
        S: * LSUB () \"/\" \"Sent\"
        S: e OK Lsub completed
        ",
    );
}

#[test]
fn list_extended_selects_and_returns_subscriptions() {
    check_in(
        &mut world(),
        "
        C: a LIST (SUBSCRIBED) \"\" *
        S: * LIST (\\HasNoChildren \\Subscribed) \"/\" \"Archive/2024\"
        S: * LIST (\\NonExistent \\Noselect \\HasNoChildren \\Subscribed) \"/\" \"Gone/Deep\"
        S: * LIST (\\HasNoChildren \\Subscribed) \"/\" \"INBOX\"
        S: a OK List completed
        C: b LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %
        S: * LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" \"Archive\" (\"CHILDINFO\" (\"SUBSCRIBED\"))
        S: * LIST (\\NonExistent \\Noselect \\HasNoChildren) \"/\" \"Gone\" (\"CHILDINFO\" (\"SUBSCRIBED\"))
        S: * LIST (\\HasNoChildren \\Subscribed) \"/\" \"INBOX\"
        S: b OK List completed
        C: c LIST \"\" (INBOX Sent) RETURN (SUBSCRIBED CHILDREN)
        S: * LIST (\\HasNoChildren \\Subscribed) \"/\" \"INBOX\"
        S: * LIST (\\HasNoChildren \\Sent) \"/\" \"Sent\"
        S: c OK List completed
        C: d LIST (SPECIAL-USE) \"\" *
        S: * LIST (\\HasNoChildren \\Sent) \"/\" \"Sent\"
        S: d OK List completed
        ",
    );
}

#[test]
fn list_status_follows_each_mailbox_that_can_be_selected() {
    let mut world = world();
    world.deliver("Sent", b"x\r\n\r\n");
    check_in(
        &mut world,
        "
        C: a LIST \"\" (Archive Sent) RETURN (STATUS (MESSAGES UNSEEN))
        S: * LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" \"Archive\"
        S: * LIST (\\HasNoChildren \\Sent) \"/\" \"Sent\"
        S: * STATUS \"Sent\" (MESSAGES 1 UNSEEN 1)
        S: a OK List completed
        ",
    );
}

#[test]
fn namespace_is_one_personal_one() {
    check(
        "
        C: a NAMESPACE
        S: * NAMESPACE ((\"\" \"/\")) NIL NIL
        S: a OK Namespace completed
        ",
    );
}
