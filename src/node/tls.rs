//! `/tls/1.0.0` with the cipher that the processor does in hardware.
//!
//! The library's own upgrade proposes ChaCha20-Poly1305 first, so two rust peers always end
//! up with it; AES-GCM is several times as fast where the processor has AES. Certificates
//! are made, parsed and verified by the library.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use futures::{
    FutureExt as _,
    future::BoxFuture,
    io::{AsyncRead, AsyncWrite},
};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p::{
    PeerId,
    identity::Keypair,
    tls::certificate::{self, P2pCertificate},
};
use rustls::{
    ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, ServerConfig,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, cipher_suite},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

/// The application protocol that libp2p's TLS names.
const ALPN: &[u8] = b"libp2p";

/// TLS for one identity.
#[derive(Clone)]
pub(super) struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// Why there is no TLS for an identity.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The key signs no certificate.
    #[error(transparent)]
    Certificate(#[from] certificate::GenError),
    /// The certificate, or the protocol, cannot be used.
    #[error(transparent)]
    Config(#[from] rustls::Error),
}

impl Tls {
    /// `aes_first` is whether the processor has AES.
    ///
    /// # Errors
    /// If the key cannot sign a certificate.
    pub(super) fn new(identity: &Keypair, aes_first: bool) -> Result<Self, TlsError> {
        let provider = Arc::new(provider(aes_first));
        let (certificate, key) = certificate::generate(identity)?;
        let key = provider.key_provider.load_private_key(key)?;
        let certified = CertifiedKey::new(vec![certificate], key);
        let resolver = Arc::new(SingleCertAndKey::from(certified));
        let verifier = Arc::new(Verifier);
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier.clone())
            .with_cert_resolver(resolver.clone());
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(resolver);
        client.alpn_protocols = vec![ALPN.to_vec()];
        // All peers have the same name here, so the ticket of one would be offered to the next,
        // which then refuses the handshake. go-libp2p has no tickets either.
        client.resumption = Resumption::disabled();
        Ok(Self {
            server: Arc::new(server),
            client: Arc::new(client),
        })
    }

    pub(super) fn accept<C>(self, io: C) -> BoxFuture<'static, io::Result<(PeerId, TlsStream<C>)>>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        async move {
            let stream = TlsAcceptor::from(self.server).accept(io).await?;
            let peer = peer_id(stream.get_ref().1)?;
            Ok((peer, stream.into()))
        }
        .boxed()
    }

    pub(super) fn connect<C>(self, io: C) -> BoxFuture<'static, io::Result<(PeerId, TlsStream<C>)>>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        async move {
            // An address instead of a name keeps the client from sending one, as the
            // specification asks.
            let nobody = ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            let stream = TlsConnector::from(self.client).connect(nobody, io).await?;
            let peer = peer_id(stream.get_ref().1)?;
            Ok((peer, stream.into()))
        }
        .boxed()
    }
}

fn provider(aes_first: bool) -> CryptoProvider {
    let chacha = cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    let mut suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
    ];
    suites.insert(if aes_first { suites.len() } else { 0 }, chacha);
    CryptoProvider {
        cipher_suites: suites,
        ..aws_lc_rs::default_provider()
    }
}

fn peer_id(state: &CommonState) -> io::Result<PeerId> {
    match state.peer_certificates() {
        Some([certificate]) => Ok(certificate::parse(certificate)
            .map_err(io::Error::other)?
            .peer_id()),
        _ => Err(io::Error::other("the peer presented no certificate")),
    }
}

/// Accepts exactly one self-signed certificate with a valid libp2p extension; who the peer
/// is then follows from it.
#[derive(Debug)]
struct Verifier;

impl Verifier {
    fn certificate<'a>(
        end_entity: &'a CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<P2pCertificate<'a>, rustls::Error> {
        if !intermediates.is_empty() {
            return Err(rustls::Error::General(
                "more than one certificate presented".to_owned(),
            ));
        }
        Ok(certificate::parse(end_entity)?)
    }

    fn signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        certificate::parse(certificate)?.verify_signature(
            signed.scheme,
            message,
            signed.signature(),
        )?;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn schemes() -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA256,
        ]
    }
}

/// TLS 1.2 is not offered, so its signatures never come.
fn no_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::Error::General(
        "TLS 1.2 is not supported".to_owned(),
    ))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Self::certificate(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Self::certificate(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}
