//! A certificate authority that exists for one test, with what it issues in files.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: TempDir,
}

/// A certificate and its key.
pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Authority {
        let directory = tempfile::tempdir().expect("a directory for certificates");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        std::fs::write(directory.path().join("ca.pem"), pem).expect("a file");
        Authority { issuer: Issuer::new(params, key), directory }
    }

    /// The file with its own certificate.
    pub fn file(&self) -> String {
        text(&self.directory.path().join("ca.pem"))
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.file()).expect("a certificate")
    }

    /// For this name and 127.0.0.1.
    pub fn issue(&self, name: &str) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned(), "127.0.0.1".to_owned()]).expect("names");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        let at = |kind: &str| self.directory.path().join(format!("{name}.{kind}.pem"));
        let issued = Issued { certificate: at("certificate"), key: at("key") };
        std::fs::write(&issued.certificate, certificate).expect("a file");
        std::fs::write(&issued.key, key.serialize_pem()).expect("a file");
        issued
    }
}

impl Issued {
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_file(&self.certificate).expect("a certificate")]
    }

    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(&self.key).expect("a key")
    }

    /// The options of a command that name its files.
    pub fn options(&self) -> [String; 4] {
        ["--client-certificate".into(), text(&self.certificate), "--client-key".into(), text(&self.key)]
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path that is text").to_owned()
}
