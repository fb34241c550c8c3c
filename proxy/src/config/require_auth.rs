//! `require_auth` of libpq: by which methods a server may ask the probes to authenticate.

use std::fmt;

use super::values::alternatives;

/// A method of authentication, as a server asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// The server lets the user in without asking for anything (`trust`, or a client certificate).
    None,
    /// The password itself.
    Password,
    /// A hash of the password and a salt.
    Md5,
    /// SCRAM-SHA-256, also with channel binding.
    ScramSha256,
}

const METHODS: [AuthMethod; 4] =
    [AuthMethod::None, AuthMethod::Password, AuthMethod::Md5, AuthMethod::ScramSha256];

impl AuthMethod {
    /// libpq's word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::ScramSha256 => "scram-sha-256",
        }
    }
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The methods that are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequireAuth {
    allowed: Vec<AuthMethod>,
    /// Whether `password` was named, which allows it without TLS.
    names_password: bool,
}

impl Default for RequireAuth {
    /// Every method, but the password itself only through TLS.
    fn default() -> Self {
        Self { allowed: METHODS.to_vec(), names_password: false }
    }
}

impl RequireAuth {
    /// Parses a list such as `scram-sha-256,md5`, or `!password,!md5` for all others.
    ///
    /// # Errors
    /// What is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split(',').map(str::trim).collect();
        let negated = words[0].starts_with('!');
        let mut named = Vec::new();
        for word in words {
            if word.starts_with('!') != negated {
                return Err("either every method has a `!` before it, or none has".to_owned());
            }
            named.push(method(word.trim_start_matches('!'))?);
        }
        let allowed = |method: &AuthMethod| named.contains(method) != negated;
        let allowed: Vec<AuthMethod> = METHODS.into_iter().filter(allowed).collect();
        if allowed.is_empty() {
            return Err("allows no method".to_owned());
        }
        let names_password = !negated && allowed.contains(&AuthMethod::Password);
        Ok(Self { allowed, names_password })
    }

    /// Whether a server may ask for `method` over a connection that is encrypted or not.
    pub fn allows(&self, method: AuthMethod, encrypted: bool) -> bool {
        let clear = method == AuthMethod::Password && !encrypted;
        self.allowed.contains(&method) && (!clear || self.names_password)
    }
}

fn method(word: &str) -> Result<AuthMethod, String> {
    if ["gss", "sspi", "oauth"].contains(&word) {
        return Err(format!("the probes cannot authenticate by \"{word}\""));
    }
    METHODS.into_iter().find(|method| method.word() == word).ok_or_else(|| {
        let words = METHODS.map(AuthMethod::word);
        format!("\"{word}\" is no method; each must be {}", alternatives(&words))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str, encrypted: bool) -> Vec<&'static str> {
        let require_auth = RequireAuth::parse(text).unwrap();
        METHODS
            .iter()
            .filter(|method| require_auth.allows(**method, encrypted))
            .map(|method| method.word())
            .collect()
    }

    #[test]
    fn methods_are_named_or_excluded() {
        assert_eq!(allowed("scram-sha-256", false), ["scram-sha-256"]);
        assert_eq!(allowed("none, md5", true), ["none", "md5"]);
        assert_eq!(allowed("!none,!md5", true), ["password", "scram-sha-256"]);
    }

    #[test]
    fn only_the_name_allows_a_password_in_the_clear() {
        assert_eq!(allowed("password", false), ["password"]);
        assert_eq!(allowed("!none,!md5", false), ["scram-sha-256"]);
        let default = RequireAuth::default();
        assert!(default.allows(AuthMethod::Password, true) && !default.allows(AuthMethod::Password, false));
        assert!(default.allows(AuthMethod::Md5, false) && default.allows(AuthMethod::None, false));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| RequireAuth::parse(text).unwrap_err();
        assert!(error("scram").contains("\"scram\" is no method"), "{}", error("scram"));
        assert!(error("").contains("\"\" is no method"));
        assert!(error("md5,!none").contains("either every method"));
        assert!(error("!none,!password,!md5,!scram-sha-256").contains("allows no method"));
        assert!(error("gss").contains("cannot authenticate by \"gss\""));
    }
}
