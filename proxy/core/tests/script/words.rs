//! The words of a line, and the values that they stand for.

use std::iter::Peekable;
use std::net::SocketAddr;
use std::str::{FromStr, SplitWhitespace};
use std::time::Duration;

use pg_leader_proxy_core::{Lsn, MemberName, Moment, ServerAddr, Timeline};

/// The words of a line, from left to right.
pub(super) struct Words<'a>(Peekable<SplitWhitespace<'a>>);

impl<'a> Words<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self(text.split_whitespace().peekable())
    }

    /// All that are left.
    pub(super) fn rest(&mut self) -> impl Iterator<Item = &'a str> {
        self.0.by_ref()
    }

    pub(super) fn peek(&mut self) -> Option<&'a str> {
        self.0.peek().copied()
    }

    pub(super) fn next(&mut self, wanted: &str) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| format!("{wanted} is missing"))
    }

    pub(super) fn accept(&mut self, word: &str) -> bool {
        self.0.next_if_eq(&word).is_some()
    }

    pub(super) fn member(&mut self, wanted: &str) -> Result<MemberName, String> {
        self.next(wanted).map(MemberName::new)
    }

    pub(super) fn number<N: FromStr>(&mut self, wanted: &str) -> Result<N, String> {
        number(self.next(wanted)?, wanted)
    }

    pub(super) fn duration(&mut self, wanted: &str) -> Result<Duration, String> {
        duration(self.next(wanted)?)
    }

    pub(super) fn moment(&mut self, wanted: &str) -> Result<Moment, String> {
        Ok(Moment::from_boot(self.duration(wanted)?))
    }

    /// The moment after `word`, or else `usual`.
    pub(super) fn moment_after(&mut self, word: &str, usual: Moment) -> Result<Moment, String> {
        if self.accept(word) { self.moment("a moment") } else { Ok(usual) }
    }

    pub(super) fn socket(&mut self) -> Result<SocketAddr, String> {
        number(self.next("a socket address")?, "a socket address")
    }

    pub(super) fn lsn(&mut self) -> Result<Lsn, String> {
        let word = self.next("an LSN")?;
        let parts = word.split_once('/').and_then(|(high, low)| {
            Some((u64::from_str_radix(high, 16).ok()?, u64::from_str_radix(low, 16).ok()?))
        });
        let (high, low) = parts.ok_or_else(|| format!("`{word}` is not an LSN"))?;
        Ok(Lsn(high << 32 | low))
    }

    pub(super) fn lsn_or_none(&mut self) -> Result<Option<Lsn>, String> {
        if self.accept("none") { Ok(None) } else { self.lsn().map(Some) }
    }

    pub(super) fn timeline(&mut self) -> Result<Timeline, String> {
        self.number("a timeline").map(Timeline)
    }

    pub(super) fn end(&mut self) -> Result<(), String> {
        match self.0.next() {
            Some(word) => Err(format!("`{word}` is too much")),
            None => Ok(()),
        }
    }
}

pub(super) fn number<N: FromStr>(word: &str, wanted: &str) -> Result<N, String> {
    word.parse().map_err(|_| format!("`{word}` is not {wanted}"))
}

pub(super) fn address(word: &str) -> Result<ServerAddr, String> {
    let (host, port) = word.rsplit_once(':').ok_or_else(|| format!("`{word}` is not host:port"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(ServerAddr::new(host, number(port, "a port")?))
}

/// `20s`, `0.25s` or `250ms`.
pub(super) fn duration(word: &str) -> Result<Duration, String> {
    let wrong = || format!("`{word}` is not a time; write `20s`, `0.25s` or `250ms`");
    if let Some(ms) = word.strip_suffix("ms") {
        return ms.parse().map(Duration::from_millis).map_err(|_| wrong());
    }
    let (whole, part) = match word.strip_suffix('s').ok_or_else(wrong)?.split_once('.') {
        Some((whole, part)) if part.len() <= 9 => (whole, format!("{part:0<9}")),
        Some(_) => return Err(wrong()),
        None => (word.trim_end_matches('s'), "0".to_owned()),
    };
    match (whole.parse(), part.parse()) {
        (Ok(whole), Ok(nanos)) => Ok(Duration::new(whole, nanos)),
        _ => Err(wrong()),
    }
}
