//! A certificate authority, and what it issues, as PEM.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rcgen::{KeyUsagePurpose, date_time_ymd};

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub struct Issued {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_after = date_time_ymd(2100, 1, 1);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("an authority's certificate"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// For a server of these names and addresses.
    pub fn server(&self, names: &[&str]) -> Issued {
        self.issue(names, "a server", ExtendedKeyUsagePurpose::ServerAuth, 2100)
    }

    pub fn expired_server(&self, names: &[&str]) -> Issued {
        self.issue(names, "a server of old", ExtendedKeyUsagePurpose::ServerAuth, 2020)
    }

    /// For somebody of this name.
    pub fn client(&self, name: &str) -> Issued {
        self.issue(&[], name, ExtendedKeyUsagePurpose::ClientAuth, 2100)
    }

    fn issue(&self, names: &[&str], common_name: &str, purpose: ExtendedKeyUsagePurpose, until: i32) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names of a certificate");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.not_before = date_time_ymd(2010, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        Issued { cert: cert.pem(), key: key.serialize_pem() }
    }
}
