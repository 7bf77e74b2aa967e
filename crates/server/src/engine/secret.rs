//! The secret by which links are signed: 32 random bytes that live as long as the state directory, so that links do
//! outlive a restart.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sandwire_protocol::limits::TOKEN_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Sha256;
use uuid::Uuid;

pub(super) const FILE: &str = "secret";
const BYTES: usize = 32;

/// What a token is for. One that was signed for another purpose is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reading one file.
    Download,
    /// Requests to a port of a sandbox.
    Service,
    /// Getting the cookie for such requests, once.
    ServiceLogin,
    /// A place in a list.
    Cursor,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Download => b"download\0",
            Self::Service => b"service\0",
            Self::ServiceLogin => b"service-login\0",
            Self::Cursor => b"cursor\0",
        }
    }
}

/// The signing secret. Never printed.
#[derive(Clone)]
pub struct Secret([u8; BYTES]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// The secret of a state directory, which is made at the first use.
    ///
    /// # Errors
    /// It can't be read or written, or is not what this server wrote.
    pub fn of(state: &Path) -> io::Result<Self> {
        let path = state.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => bytes.try_into().map(Self).map_err(|_| {
                let message = format!("{} is damaged; remove it, which ends all links", path.display());
                io::Error::new(io::ErrorKind::InvalidData, message)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::random().write(state, &path),
            Err(error) => Err(error),
        }
    }

    /// Written beside its place and then renamed: a crash leaves all of it or nothing.
    fn write(self, state: &Path, path: &Path) -> io::Result<Self> {
        let draft = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&self.0)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        fs::File::open(state)?.sync_all()?;
        Ok(self)
    }

    /// One that lives as long as the process.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; BYTES];
        for (half, random) in bytes.chunks_mut(BYTES / 2).zip([Uuid::new_v4(), Uuid::new_v4()]) {
            half.copy_from_slice(random.as_bytes());
        }
        Self(bytes)
    }

    /// A token that carries `claims`, readable by anybody and changeable by nobody.
    #[must_use]
    pub fn sign(&self, purpose: Purpose, claims: &impl Serialize) -> String {
        // What is signed here are plain structs with string keys, which always have a JSON form.
        let payload = serde_json::to_vec(claims).unwrap_or_default();
        let seal = self.seal(purpose, &payload).map(|mac| mac.finalize().into_bytes()).unwrap_or_default();
        format!("{}.{}", URL_SAFE_NO_PAD.encode(&payload), URL_SAFE_NO_PAD.encode(seal))
    }

    /// The claims of a token that this secret signed for that purpose; `None` for any other text.
    #[must_use]
    pub fn verify<T: DeserializeOwned>(&self, purpose: Purpose, token: &str) -> Option<T> {
        let (payload, seal) = token.split_once('.').filter(|_| token.len() <= TOKEN_MAX)?;
        let (payload, seal) = (URL_SAFE_NO_PAD.decode(payload).ok()?, URL_SAFE_NO_PAD.decode(seal).ok()?);
        // Compares in constant time.
        self.seal(purpose, &payload)?.verify_slice(&seal).ok()?;
        serde_json::from_slice(&payload).ok()
    }

    fn seal(&self, purpose: Purpose, payload: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(purpose.label());
        mac.update(payload);
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_stays_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let token = Secret::of(dir.path()).unwrap().sign(Purpose::Download, &"claims");
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Secret::of(dir.path()).unwrap();
        assert_eq!(again.verify::<String>(Purpose::Download, &token).as_deref(), Some("claims"));
        assert!(!format!("{again:?}").contains(|c: char| c.is_ascii_digit()));
    }

    #[test]
    fn a_damaged_one_is_refused_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "short").unwrap();
        assert!(Secret::of(dir.path()).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn purposes_and_secrets_do_not_mix() {
        let secret = Secret::random();
        let token = secret.sign(Purpose::ServiceLogin, &1);
        assert_eq!(secret.verify::<u8>(Purpose::ServiceLogin, &token), Some(1));
        assert_eq!(secret.verify::<u8>(Purpose::Service, &token), None);
        assert_eq!(Secret::random().verify::<u8>(Purpose::ServiceLogin, &token), None);
    }

    proptest! {
        #[test]
        fn no_character_can_be_changed(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9._=-]") {
            let secret = Secret::random();
            let token = secret.sign(Purpose::Download, &"a path");
            let at = at.index(token.len());
            let mut forged = token.clone();
            forged.replace_range(at..=at, &to);
            prop_assume!(forged != token);
            prop_assert_eq!(secret.verify::<String>(Purpose::Download, &forged), None);
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,200}") {
            prop_assert_eq!(Secret::random().verify::<String>(Purpose::Service, &text), None);
        }
    }
}
