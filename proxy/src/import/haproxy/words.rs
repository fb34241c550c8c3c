//! The words of a line of haproxy.cfg, with its quotes, escapes, comments and variables (HAProxy's Configuration Manual,
//! sections 2.2 "Quoting and escaping" and 2.3 "Environment variables").

use std::iter::Peekable;
use std::str::Chars;

/// A word, as HAProxy would see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// An environment variable in it whose value the file does not say.
    pub(super) variable: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Weak,
    Strong,
}

/// The words of one line; none for an empty line or a comment.
///
/// # Errors
/// When a quote is not closed.
pub(super) fn split(line: &str) -> Result<Vec<Word>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = Quote::None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Quote::None, ' ' | '\t') => words.extend(word.take()),
            (Quote::None, '#') => break,
            (Quote::None, '"') => (quote, word) = (Quote::Weak, Some(word.unwrap_or_default())),
            (Quote::None, '\'') => (quote, word) = (Quote::Strong, Some(word.unwrap_or_default())),
            (Quote::Weak, '"') | (Quote::Strong, '\'') => quote = Quote::None,
            (Quote::Weak, '$') => variable(&mut chars, word.get_or_insert_default()),
            (Quote::None | Quote::Weak, '\\') => escape(&mut chars, &mut word.get_or_insert_default().text),
            _ => word.get_or_insert_default().text.push(c),
        }
    }
    match quote {
        Quote::None => {
            words.extend(word);
            Ok(words)
        }
        Quote::Weak | Quote::Strong => Err("a quote is not closed"),
    }
}

fn escape(chars: &mut Peekable<Chars<'_>>, text: &mut String) {
    match chars.next() {
        Some(c @ (' ' | '\\' | '#' | '"' | '\'' | '$')) => text.push(c),
        Some('n') => text.push('\n'),
        Some('r') => text.push('\r'),
        Some('t') => text.push('\t'),
        Some(c) => text.extend(['\\', c]),
        None => text.push('\\'),
    }
}

/// `$NAME`, `${NAME}` or `${NAME-default}`. A default is taken, because it is all that the file says.
fn variable(chars: &mut Peekable<Chars<'_>>, word: &mut Word) {
    let braces = chars.next_if_eq(&'{').is_some();
    let is_name = |c: &char| *c == '_' || c.is_ascii_alphanumeric();
    let mut name = String::new();
    while let Some(c) = chars.next_if(is_name) {
        name.push(c);
    }
    let default = braces.then(|| {
        let given = chars.next_if_eq(&'-').is_some();
        let mut default = String::new();
        while let Some(c) = chars.next_if(|c| *c != '}' && *c != '"') {
            default.push(c);
        }
        chars.next_if_eq(&'}');
        given.then_some(default)
    });
    match default.flatten() {
        Some(default) => word.text.push_str(&default),
        None => {
            word.text.push_str(&format!("${name}"));
            word.variable.get_or_insert(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        split(line).unwrap().into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn words_are_split_as_haproxy_splits_them() {
        assert_eq!(texts("  bind *:5000  # the leader"), ["bind", "*:5000"]);
        assert_eq!(
            texts(r#"tcp-check expect string master\ is\ running"#),
            ["tcp-check", "expect", "string", "master is running"]
        );
        assert_eq!(texts(r#"log-format "%{+Q}o %t"' %s'\#"#), ["log-format", "%{+Q}o %t %s#"]);
        assert_eq!(texts(r#"a "" b#c"#), ["a", "", "b"]);
        assert_eq!(texts(r"a\q \"), [r"a\q", r"\"]);
        assert_eq!(texts(""), Vec::<String>::new());
        assert!(split(r#"bind "*:5000"#).is_err() && split("bind '*:5000").is_err());
    }

    #[test]
    fn variables_count_in_weak_quotes_only() {
        let words = split(r#"bind "*:${PORT}" "*:${PORT-5000}" '*:$PORT' *:$PORT "$A$B" "\$C""#).unwrap();
        let told: Vec<(&str, Option<&str>)> =
            words.iter().map(|word| (word.text.as_str(), word.variable.as_deref())).collect();
        let expected = [
            ("bind", None),
            ("*:$PORT", Some("PORT")),
            ("*:5000", None),
            ("*:$PORT", None),
            ("*:$PORT", None),
            ("$A$B", Some("A")),
            ("$C", None),
        ];
        assert_eq!(told, expected);
    }
}
