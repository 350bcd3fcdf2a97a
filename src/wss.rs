//! Secure websockets: the authorities that a server's certificate may come from, and the certificate
//! of this one, which is read again when its files change.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

use crate::{config, telemetry::operator_line, wording::system_error};

/// The protocol that a websocket begins with.
const ALPN: &[u8] = b"http/1.1";

/// Largest file of certificates or of a key, in bytes.
const MAX_SIZE: u64 = 4 << 20;

/// Between two looks at whether the files have changed. Only handshakes look.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Why the files for secure websockets are refused.
#[derive(Debug, thiserror::Error)]
pub enum WssError {
    /// A file cannot be opened or read.
    #[error("open {}: {}", .path.display(), system_error(.source))]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no {wanted} in PEM", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The key is one that cannot be used, or is of another certificate.
    #[error("{} is no key for the certificate in {}: {source}", .key.display(), .certificate.display())]
    Key {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What the library said.
        source: rustls::Error,
    },
    /// The library refuses a certificate or its own configuration.
    #[error("{}: {source}", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: rustls::Error,
    },
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, WssError> {
    let failed = |source| WssError::File {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_SIZE)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, WssError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(WssError::Content {
            path: path.to_owned(),
            wanted: "certificate",
        }),
    }
}

/// What secure websockets are dialed and listened on with.
#[derive(Debug, Clone)]
pub struct Wss {
    /// For servers.
    pub(crate) client: Arc<ClientConfig>,
    /// For those that dial, if this daemon has a certificate.
    pub(crate) server: Option<Server>,
}

/// What connections to a secure listener are served with.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    config: Arc<ServerConfig>,
    certificate: Arc<Certificate>,
}

impl Server {
    /// The configuration, with the certificate that its files hold now.
    pub(crate) async fn current(&self) -> Arc<ServerConfig> {
        if self.certificate.is_due() {
            let certificate = self.certificate.clone();
            // A panic leaves the certificate as it was.
            let _ = tokio::task::spawn_blocking(move || certificate.look()).await;
        }
        self.config.clone()
    }
}

/// Reads the files that `settings` name. What the operator should know beside is the second part.
///
/// # Errors
/// [`WssError`]; the daemon must not start without what it was told to serve.
pub fn load(settings: &config::Wss) -> Result<(Wss, Vec<String>), WssError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = &settings.roots {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(refused(path))?;
        }
    }
    let origin = settings.roots.as_deref().unwrap_or(Path::new("wss"));
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(refused(origin))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![ALPN.to_vec()];
    // Tickets of strangers' servers would be kept, and nobody would be charged for them.
    client.resumption = rustls::client::Resumption::disabled();
    let mut warnings = Vec::new();
    let server = match &settings.certificate {
        Some(pair) => Some(server(pair, provider, &mut warnings)?),
        None => None,
    };
    let client = Arc::new(client);
    Ok((Wss { client, server }, warnings))
}

fn refused(path: &Path) -> impl Fn(rustls::Error) -> WssError {
    let path = path.to_owned();
    move |source| WssError::Refused {
        path: path.clone(),
        source,
    }
}

fn server(
    files: &config::CertificateFiles,
    provider: Arc<CryptoProvider>,
    warnings: &mut Vec<String>,
) -> Result<Server, WssError> {
    let certificate = Arc::new(Certificate::load(files, provider.clone(), warnings)?);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused(&files.certificate))?
        .with_no_client_auth()
        .with_cert_resolver(certificate.clone());
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A peer that comes back costs a whole handshake, and nothing in between.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Server {
        config: Arc::new(config),
        certificate,
    })
}

/// By what a file is known to be another than before.
type Version = Option<(u64, u64, [i64; 4])>;

fn version(path: &Path) -> Version {
    let found = fs::metadata(path).ok()?;
    // A tool may keep the time of the contents. Nobody sets that of the change.
    let times = [
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec(),
    ];
    Some((found.ino(), found.size(), times))
}

/// The certificate of this daemon's secure listeners.
#[derive(Debug)]
struct Certificate {
    files: config::CertificateFiles,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
    /// When the files were last looked at.
    looked: Mutex<Instant>,
    /// Those that were read last, be it in vain.
    versions: Mutex<[Version; 2]>,
}

impl Certificate {
    fn load(
        files: &config::CertificateFiles,
        provider: Arc<CryptoProvider>,
        warnings: &mut Vec<String>,
    ) -> Result<Self, WssError> {
        let versions = Mutex::new(versions(files));
        let current = certified(files, &provider)?;
        warnings.extend(unusual(files, &current));
        Ok(Self {
            files: files.clone(),
            provider,
            current: RwLock::new(Arc::new(current)),
            looked: Mutex::new(Instant::now()),
            versions,
        })
    }

    /// Whether it is time to look. The next one to ask has time again.
    fn is_due(&self) -> bool {
        let mut looked = self.looked.lock();
        let due = looked.elapsed() >= LOOK_INTERVAL;
        if due {
            *looked = Instant::now();
        }
        due
    }

    /// Reads the files if they have changed. As long as they do not fit together, as while they are
    /// being replaced, the certificate stays as it was.
    fn look(&self) {
        // Whoever reads already may wait for a file system that has gone. One thread does.
        let Some(mut versions_read) = self.versions.try_lock() else {
            return;
        };
        let now = versions(&self.files);
        if *versions_read == now {
            return;
        }
        *versions_read = now;
        match certified(&self.files, &self.provider) {
            Ok(certified) => {
                if let Some(warning) = unusual(&self.files, &certified) {
                    operator_line(&warning);
                }
                *self.current.write() = Arc::new(certified);
                tracing::info!(path = %self.files.certificate.display(), "certificate read again");
            }
            Err(error) => operator_line(&format!(
                "the certificate of secure websockets stays as it was: {error}"
            )),
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().clone())
    }
}

fn versions(files: &config::CertificateFiles) -> [Version; 2] {
    [version(&files.certificate), version(&files.key)]
}

fn certified(
    files: &config::CertificateFiles,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, WssError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?);
    let key = key.map_err(|_| WssError::Content {
        path: files.key.clone(),
        wanted: "private key",
    })?;
    CertifiedKey::from_der(chain, key, provider).map_err(|source| WssError::Key {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    })
}

/// What peers will refuse the certificate for, if they do.
fn unusual(files: &config::CertificateFiles, certified: &CertifiedKey) -> Option<String> {
    let path = files.certificate.display();
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certified.cert.first()?) else {
        return Some(format!("{path}: the certificate cannot be understood"));
    };
    let validity = parsed.validity();
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    if validity.not_after.timestamp() < now {
        return Some(format!(
            "{path}: the certificate has expired ({}), peers will refuse it",
            validity.not_after
        ));
    }
    (validity.not_before.timestamp() > now).then(|| {
        format!(
            "{path}: the certificate is not valid yet ({}), peers will refuse it",
            validity.not_before
        )
    })
}
