//! The sandbox's certificates, made at start and kept nowhere, and the kubeconfig that names them.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;

/// Why there are no certificates or no kubeconfig.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A certificate could not be made.
    #[error("failed to make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// TLS refused what was made.
    #[error("failed to configure TLS")]
    Tls(#[from] rustls::Error),
    /// The kubeconfig could not be written.
    #[error("failed to write the kubeconfig")]
    Kubeconfig(#[source] io::Error),
}

/// A certificate authority and the server certificate it signed.
pub struct Pki {
    /// The authority's certificate, in PEM form.
    pub ca_pem: String,
    /// TLS for a server on `127.0.0.1`, `::1` and `localhost`.
    pub tls: Arc<ServerConfig>,
}

impl Pki {
    /// Makes fresh keys; nothing of them outlives the process.
    pub fn generate() -> Result<Self, PkiError> {
        let mut authority = CertificateParams::new(Vec::default())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "sandbox CA");
        let authority_key = KeyPair::generate()?;
        let authority_certificate = authority.self_signed(&authority_key)?;
        let issuer = Issuer::new(authority, authority_key);

        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        let mut server = CertificateParams::new(names)?;
        server.distinguished_name.push(DnType::CommonName, "sandbox API");
        server.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        let server_key = KeyPair::generate()?;
        let server_certificate = server.signed_by(&server_key, &issuer)?;

        let key = PrivateKeyDer::Pkcs8(server_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![server_certificate.der().clone()], key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { ca_pem: authority_certificate.pem(), tls: Arc::new(tls) })
    }

    /// Writes a kubeconfig for a bearer token, readable by its owner alone.
    pub fn write_kubeconfig(
        &self,
        path: &Path,
        server: &str,
        token: &str,
        namespace: &str,
    ) -> Result<(), PkiError> {
        let text = self.kubeconfig(server, token, namespace);
        // Written beside and renamed, so that nobody reads half of it.
        let partial = path.with_extension("partial");
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(text.as_bytes())?;
            std::fs::rename(&partial, path)
        };
        write().map_err(PkiError::Kubeconfig)
    }

    /// A kubeconfig, as JSON, which is YAML too.
    pub fn kubeconfig(&self, server: &str, token: &str, namespace: &str) -> String {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "sandbox", "cluster": {
                "server": server, "certificate-authority-data": STANDARD.encode(&self.ca_pem)}}],
            "users": [{"name": "sandbox", "user": {"token": token}}],
            "contexts": [{"name": "sandbox", "context": {
                "cluster": "sandbox", "user": "sandbox", "namespace": namespace}}],
            "current-context": "sandbox",
        });
        format!("{config:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_kubeconfig_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        let pki = Pki::generate().unwrap();
        pki.write_kubeconfig(&path, "https://127.0.0.1:1", "secret", "default").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let config: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(config["users"][0]["user"]["token"], "secret");
    }
}
