//! The configuration as text: what is in effect, or every key with its default and its sentence.
//!
//! Invariant: what is printed is valid TOML, and loads as what it was printed from.

use crate::keys::Config;
use crate::section::{Field, Section as _, Shown};

/// The configuration in effect; with `defaults`, the reference: every key there is, as if the file were empty.
pub fn show(config: &Config, defaults: bool) -> String {
    let mut out = String::new();
    if defaults {
        table(&mut out, &Config::default().fields(), "", Style { sentences: true, comment: "" });
    } else {
        table(&mut out, &config.fields(), "", Style { sentences: false, comment: "" });
    }
    out
}

#[derive(Clone, Copy)]
struct Style {
    sentences: bool,
    /// What stands before each line: a comment sign in an example of a table that is not there.
    comment: &'static str,
}

/// Values first, then tables: TOML has no way back to the outer table.
fn table(out: &mut String, fields: &[Field], path: &str, style: Style) {
    for field in fields {
        if let Shown::Value(value) = &field.shown {
            if style.sentences {
                sentences(out, field, style);
            }
            match value {
                Some(value) => out.push_str(&format!("{}{} = {value}\n", style.comment, field.name)),
                None if style.sentences => out.push_str(&format!("# {} =\n", field.name)),
                None => {}
            }
        }
    }
    for field in fields {
        let inner = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
        match &field.shown {
            Shown::Value(_) => {}
            Shown::Table(fields) => {
                if style.sentences || !fields.is_empty() {
                    heading(out, field, &format!("[{inner}]"), style);
                    table(out, fields, &inner, style);
                }
            }
            Shown::Tables { tables, template } => {
                for fields in tables {
                    heading(out, field, &format!("[[{inner}]]"), style);
                    table(out, fields, &inner, style);
                }
                if tables.is_empty() && style.sentences {
                    let style = Style { comment: "# ", ..style };
                    heading(out, field, &format!("[[{inner}]]"), style);
                    table(out, template, &inner, style);
                }
            }
        }
    }
}

fn heading(out: &mut String, field: &Field, heading: &str, style: Style) {
    if !out.is_empty() {
        out.push('\n');
    }
    if style.sentences {
        sentences(out, field, style);
    }
    out.push_str(&format!("{}{heading}\n", style.comment));
}

fn sentences(out: &mut String, field: &Field, style: Style) {
    for line in field.doc {
        out.push_str(&format!("{}# {}\n", style.comment, line.trim()));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::load;

    #[test]
    fn the_reference_loads_back_as_the_defaults() {
        let reference = show(&Config::default(), true);
        let loaded =
            load(&reference, Path::new("/etc/roost.toml")).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        assert_eq!(loaded, Config::default());
    }

    #[test]
    fn the_reference_names_every_key_with_a_sentence() {
        let reference = show(&Config::default(), true);
        for line in [
            "[node]",
            "state_dir = \"/var/lib/roost\"",
            "# run_as =",
            "# [[auth.passdb]]",
            "# driver = ",
            "[acl]",
        ] {
            assert!(reference.lines().any(|found| found.starts_with(line)), "{line} in\n{reference}");
        }
        let mut before = "";
        for line in reference.lines() {
            let key = line.trim_start_matches("# ").split_once(" =").map(|(key, _)| key);
            if key.is_some_and(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_')) {
                assert!(
                    before.starts_with("# ") && before.ends_with(['.', ':', '"', 'a', ')', '$']),
                    "{before}\n{line}"
                );
            }
            before = line;
        }
    }

    #[test]
    fn the_effective_configuration_loads_back_as_itself() {
        let text = include_str!("../samples/single-node.toml");
        let path = Path::new("/etc/roost/roost.toml");
        let config = load(text, path).unwrap();
        let shown = show(&config, false);
        assert_eq!(load(&shown, path).unwrap(), config, "{shown}");
        assert!(!shown.contains('#'));
    }

    #[test]
    fn strings_with_quotes_and_controls_survive() {
        let mut config = Config::default();
        config.metrics.token = Some("a\"b\\c\u{7f}ö\u{1}12345".to_owned());
        let mistakes = load(&show(&config, false), Path::new("x")).unwrap_err();
        assert_eq!(mistakes.len(), 1, "only the token's own check complains: {mistakes:?}");
        assert!(mistakes[0].message.starts_with("metrics.token"));
    }
}
