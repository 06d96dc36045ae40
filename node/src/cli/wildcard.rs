//! Patterns: `*` is anything, `?` one character, `%` anything but `/`.

/// Whether the whole text is like the pattern. Costs their lengths multiplied, whatever they are.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    // `reached[n]`: the pattern so far can match the first n characters.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for item in pattern.chars() {
        let mut next = vec![false; text.len() + 1];
        let mut before = false;
        for at in 0..=text.len() {
            let last = at.checked_sub(1).and_then(|last| text.get(last).map(|character| (last, *character)));
            before = match (item, last) {
                ('*', _) => reached[at] || before,
                ('%', Some((_, character))) => reached[at] || (before && character != '/'),
                ('%', None) => reached[at],
                ('?', Some((last, _))) => reached[last],
                (letter, Some((last, character))) => reached[last] && letter == character,
                (_, None) => false,
            };
            next[at] = before;
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_whole_texts() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*@example.org", "ada@example.org", true),
            ("*@example.org", "ada@example.com", false),
            ("a?a", "ada", true),
            ("a?a", "aa", false),
            ("%", "a/b", false),
            ("a/%", "a/b", true),
            ("*b*", "abc", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
