//! Certificates of secure websockets, from authorities that are made for a test.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, KeyPair, date_time_ymd};

/// An authority of its own, and a certificate from it, as files: `roots.pem`, `cert.pem` and
/// `key.pem`.
pub struct Files {
    folder: tempfile::TempDir,
    authority: (Certificate, KeyPair),
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Files").field(&self.folder).finish()
    }
}

impl Files {
    #[must_use]
    pub fn new(names: &[&str]) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).expect("an authority");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("roots.pem"), authority.pem()).expect("written");
        let files = Self {
            folder,
            authority: (authority, key),
        };
        files.issue(names, 4000);
        files
    }

    /// Replaces the certificate and its key. It is valid up to `year`.
    pub fn issue(&self, names: &[&str], year: i32) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_after = date_time_ymd(year, 1, 1);
        let (authority, signer) = &self.authority;
        let certificate = params.signed_by(&key, authority, signer);
        // One after the other, as programs do that renew certificates.
        let certificate = certificate.expect("a certificate").pem();
        fs::write(self.path("cert.pem"), certificate).expect("written");
        fs::write(self.path("key.pem"), key.serialize_pem()).expect("written");
    }

    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The flags of who listens.
    #[must_use]
    pub fn certificate(&self) -> [String; 2] {
        let flag = |flag, name| format!("-{flag}={}", self.path(name).display());
        [flag("wssCert", "cert.pem"), flag("wssKey", "key.pem")]
    }

    /// The flag of who trusts the authority.
    #[must_use]
    pub fn roots(&self) -> String {
        format!("-wssRoots={}", self.path("roots.pem").display())
    }
}
