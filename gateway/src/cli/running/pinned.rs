//! TLS with the gateway of this machine's own configuration: believed is whoever has the key of the certificate in
//! `server.tls_cert`, and nobody else.
//!
//! The name in it is not compared, since the gateway is reached here by the address that it listens on, and neither are its
//! dates and who signed it: what lies in the operator's own file needs nobody's word.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cli::Exit;
use crate::cli::source::Failure;

/// What is said to those who ask by a name that is none: nobody looks at it.
const ANY_NAME: &str = "localhost";

/// Speaks TLS with the gateway of one certificate.
#[derive(Clone)]
pub(super) struct Pinned(TlsConnector);

impl Pinned {
    /// Reads the certificate, the first in the file.
    ///
    /// # Errors
    /// [`Exit::Usage`] when there is none.
    pub(super) fn read(cert: &Path) -> Result<Self, Failure> {
        let wrong = |why: &dyn std::fmt::Display| {
            Failure::new(Exit::Usage, format!("server.tls_cert {}: {why}", cert.display()))
        };
        let certificate = CertificateDer::from_pem_file(cert).map_err(|error| wrong(&error))?;
        let provider = Arc::new(default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| wrong(&error))?.dangerous();
        let only = Arc::new(Only { certificate, algorithms });
        let mut config = builder.with_custom_certificate_verifier(only).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Greets the gateway at the other end.
    ///
    /// # Errors
    /// When it has another certificate, or speaks no TLS.
    pub(super) async fn greet(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.or_else(|_| ServerName::try_from(ANY_NAME)).map_err(io::Error::other)?;
        self.0.connect(name, stream).await
    }
}

/// Why there is no TLS, and what to do.
pub(super) fn complaint(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    if matches!(cause, Some(Error::InvalidCertificate(_))) {
        "what answers has another certificate than the one in server.tls_cert; if that was changed, SIGHUP has the \
         gateway read it again"
            .to_owned()
    } else if matches!(cause, Some(Error::InvalidMessage(_))) {
        "what answers speaks no TLS, though server.tls_cert is set".to_owned()
    } else {
        error.to_string()
    }
}

/// Believes one certificate.
#[derive(Debug)]
struct Only {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if end_entity.as_ref() == self.certificate.as_ref() {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
