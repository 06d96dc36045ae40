//! Rows 31 to 39: what users set.

use super::parted;
use crate::state::Home;
use crate::state::tests::sites::Site;
use crate::{MailboxId, Op};

#[test]
fn row_31_of_subscribe_and_unsubscribe_the_greater_stamp_wins() {
    let mut w = parted();
    let subscribe = |on| Op::Subscribe { name: "M".to_owned(), on };
    w.b.now_ms += 5;
    w.a.issue(subscribe(true));
    w.b.issue(subscribe(false));
    w.meet();
    assert!(!w.a.state.is_subscribed("M"));
    let stamp = w.b.state.clock_mut().issue(w.b.now_ms);
    w.a.issue_at(stamp, subscribe(false));
    w.b.issue_at(stamp, subscribe(true));
    w.meet();
    assert!(w.a.state.is_subscribed("M"), "equal: subscribed");
}

#[test]
fn row_33_concurrent_rights_grant_only_what_both_grant() {
    let mut w = parted();
    let rights = |site: &Site, m| -> Vec<(String, String)> {
        site.state.mailbox(m).unwrap().acl().map(|(who, what)| (who.to_owned(), what)).collect()
    };
    let owned = |pairs: &[(&str, &str)]| -> Vec<_> {
        pairs.iter().map(|(who, what)| ((*who).to_owned(), (*what).to_owned())).collect()
    };
    w.a.set_acl(w.m, "u", Some("lrswi"));
    w.b.set_acl(w.m, "u", Some("lrx"));
    w.a.set_acl(w.m, "-v", Some("l"));
    w.b.set_acl(w.m, "-v", Some("r"));
    w.meet();
    assert_eq!(rights(&w.a, w.m), owned(&[("-v", "lr"), ("u", "lr")]), "what is taken away adds up (I13)");
    w.a.set_acl(w.m, "u", Some("lrs"));
    w.b.set_acl(w.m, "u", None);
    w.meet();
    assert_eq!(rights(&w.a, w.m), owned(&[("-v", "lr")]));
    w.b.set_acl(w.m, "u", Some("lri"));
    w.meet();
    assert_eq!(rights(&w.a, w.m), owned(&[("-v", "lr"), ("u", "ilr")]), "the next SETACL decides");
}

#[test]
fn row_34_of_two_metadata_values_the_greater_stamp_wins() {
    let mut w = parted();
    let value = |site: &Site, mailbox: Option<MailboxId>| -> Option<Vec<u8>> {
        match mailbox {
            None => site.state.metadata().next().map(|(_, value)| value.to_vec()),
            Some(id) => site.state.mailbox(id).unwrap().metadata().next().map(|(_, value)| value.to_vec()),
        }
    };
    for mailbox in [None, Some(w.m)] {
        let set = |value: Option<&[u8]>| Op::Metadata {
            mailbox,
            key: "/private/comment".to_owned(),
            value: value.map(<[u8]>::to_vec),
        };
        w.b.now_ms += 50;
        w.a.issue(set(Some(b"v")));
        w.b.issue(set(None));
        w.meet();
        assert_eq!(value(&w.a, mailbox), None);
        w.a.issue(set(Some(b"w")));
        w.meet();
        assert_eq!(value(&w.b, mailbox), Some(b"w".to_vec()));
    }
}

#[test]
fn row_36_the_script_that_lost_is_kept_under_a_name_that_tells() {
    let mut w = parted();
    w.a.put_script("s", "keep;");
    w.meet();
    w.b.now_ms += 5;
    w.a.put_script("s", "discard;");
    w.b.put_script("s", "stop;");
    w.a.issue(Op::ScriptActivate { name: Some("s".to_owned()) });
    w.meet();
    let scripts = w.a.state.scripts();
    assert_eq!((scripts.len(), &*scripts[0].text, scripts[0].active), (2, &b"stop;"[..], true));
    assert_eq!((&*scripts[1].text, scripts[1].active), (&b"discard;"[..], false));
    let copy = scripts[1].name.clone();
    assert_eq!(copy, format!("s.conflict-0-{}", scripts[1].stamp));
    w.b.delete_script(&copy);
    w.meet();
    assert_eq!(w.a.state.scripts().len(), 1);
}

#[test]
fn row_37_an_edited_script_survives_its_deletion() {
    let mut w = parted();
    w.a.put_script("s", "keep;");
    w.meet();
    w.a.put_script("s", "discard;");
    w.b.now_ms += 5;
    w.b.delete_script("s");
    w.meet();
    assert_eq!(w.a.script("s").map(|script| script.text.to_vec()), Some(b"discard;".to_vec()));
}

#[test]
fn row_38_of_two_activations_the_greater_stamp_wins() {
    let mut w = parted();
    w.b.now_ms += 5;
    w.a.issue(Op::ScriptActivate { name: Some("s".to_owned()) });
    w.b.issue(Op::ScriptActivate { name: Some("t".to_owned()) });
    w.meet();
    assert_eq!(w.a.state.active_script(), Some("t"));
    w.b.issue(Op::ScriptActivate { name: None });
    w.meet();
    assert_eq!(w.a.state.active_script(), None);
}

#[test]
fn row_39_of_two_homes_the_greater_epoch_wins_then_the_greater_site() {
    let mut w = parted();
    let (site_a, site_b) = (w.a.site(), w.b.site());
    let home = |site, home_epoch| Op::Home { site, home_epoch, lineage: (0, site_a) };
    w.a.issue(home(site_a, 3));
    w.b.issue(home(site_b, 2));
    w.meet();
    assert_eq!(w.b.state.home(), Some(Home { epoch: 3, site: site_a, lineage: (0, site_a) }));
    w.a.issue(home(site_a, 4));
    w.b.issue(home(site_b, 4));
    w.meet();
    assert_eq!(w.a.state.home().unwrap().site, site_b);
}
