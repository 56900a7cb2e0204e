//! TLS: which certificates are believed.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// The certificates that servers' certificates must be signed by: those of a file, or of the
/// system.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    /// The file's text; none for those of the system.
    pub(super) pem: Option<Vec<u8>>,
}

impl Roots {
    /// Reads the file, if one is named.
    pub(super) fn open(file: Option<&Path>) -> Result<Self, String> {
        let Some(path) = file else { return Ok(Self { pem: None }) };
        let told = |why: String| format!("{}: {why}", path.display());
        let pem = std::fs::read(path).map_err(|error| told(error.to_string()))?;
        if store(&pem).map_err(told)?.is_empty() {
            return Err(told("expected certificates in PEM, found none".to_owned()));
        }
        Ok(Self { pem: Some(pem) })
    }

    /// The client side of TLS.
    pub(super) fn client(&self) -> Result<ClientConfig, String> {
        let roots = match &self.pem {
            Some(pem) => store(pem)?,
            None => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                roots
            }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

fn store(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}
