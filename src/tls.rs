//! TLS to our own servers: files of certificates and keys, and why a handshake failed, in the words of the configuration.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription as Alert, CertificateError as Bad, Error as Tls};

/// A file of certificates or a key is smaller than this.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// PEM files. They are read for each connection, so that a renewed certificate needs no restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Certificates of the authorities that issue the server's certificate.
    pub ca: Option<PathBuf>,
    pub own: Option<Own>,
}

/// What we show the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Our certificate, followed by those between it and its authority.
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Files {
    pub fn is_empty(&self) -> bool {
        self.ca.is_none() && self.own.is_none()
    }
}

/// The certificates of a file, of which there is one at least.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("{} holds no certificate; use a PEM file", path.display())),
    }
}

pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let unusable =
        |_| format!("{} holds no private key that can be read; use a PEM file without a password", path.display());
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(unusable)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(format!("{} cannot be read ({error})", path.display())),
        Ok(length) if length as u64 > MAX_FILE_BYTES => {
            Err(format!("{} is over {MAX_FILE_BYTES} bytes", path.display()))
        }
        Ok(_) => Ok(bytes),
    }
}

/// With TLS 1.3 our handshake is done before the server has looked at our certificate. Its alert can be lost: what we have sent
/// meanwhile is answered with a reset, and that is then all we see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct EndedAfterHandshake(io::ErrorKind);

/// The error of a connection that was made, in the words of `explain`, where it may be one that the server refused.
pub fn ended_after_handshake(error: &io::Error) -> Option<io::Error> {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let kind = error.kind();
    let is_end = matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
    (is_end && find::<Tls>(error).is_none()).then(|| io::Error::new(kind, EndedAfterHandshake(kind)))
}

/// Why TLS to the server failed, and which key of its section of the configuration is about that. `None`: it was something
/// else.
pub fn explain(error: &(dyn Error + 'static), section: &str) -> Option<String> {
    if let Some(ended) = find::<EndedAfterHandshake>(error) {
        return Some(format!(
            "{section}.tls_cert: the server ended the connection right after the handshake; most likely it asks for a \
             certificate, or refuses ours; its log says why ({ended})"
        ));
    }
    let error = find::<Tls>(error)?;
    let (key, problem) = match error {
        Tls::InvalidCertificate(Bad::UnknownIssuer) => (
            "tls_ca",
            "the server's certificate is of no authority that is trusted here; name the file with the certificate of its authority",
        ),
        Tls::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            ("url", "the server's certificate is not for this host; use a name that it has")
        }
        Tls::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            ("url", "the server's certificate has expired; it needs a new one")
        }
        Tls::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            ("url", "the server's certificate is not valid yet; are the clocks right?")
        }
        Tls::InvalidCertificate(_) => ("url", "the server's certificate is refused"),
        Tls::AlertReceived(Alert::CertificateRequired | Alert::HandshakeFailure) => {
            ("tls_cert", "the server ended the handshake; if it asks for a certificate, set this and tls_key")
        }
        Tls::AlertReceived(
            Alert::BadCertificate
            | Alert::UnknownCA
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::UnsupportedCertificate,
        ) => {
            ("tls_cert", "the server refuses our certificate; use one that its authority has issued and that is valid")
        }
        _ => return None,
    };
    Some(format!("{section}.{key}: {problem} ({error})"))
}

/// Wherever it is in a chain of causes.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    // An I/O error that holds another one does not name that one, but its cause.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(held) => find(held),
        None => find(error.source()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_handshake_is_told_by_the_key_that_is_about_it() {
        let cases = [
            (Tls::InvalidCertificate(Bad::UnknownIssuer), "broker.tls_ca: "),
            (Tls::InvalidCertificate(Bad::NotValidForName), "broker.url: "),
            (Tls::InvalidCertificate(Bad::Expired), "broker.url: the server's certificate has expired"),
            (Tls::AlertReceived(Alert::CertificateRequired), "broker.tls_cert: "),
            (Tls::AlertReceived(Alert::UnknownCA), "broker.tls_cert: the server refuses"),
        ];
        for (error, begins) in cases {
            let held = io::Error::new(io::ErrorKind::InvalidData, io::Error::other(error));
            let told = explain(&held, "broker").unwrap();
            assert!(told.starts_with(begins), "{told}");
        }
        let ended = ended_after_handshake(&io::Error::from(io::ErrorKind::ConnectionReset)).unwrap();
        let told = explain(&ended, "broker").unwrap();
        assert!(told.starts_with("broker.tls_cert: ") && told.contains("connection reset"), "{told}");
        let alert = io::Error::new(io::ErrorKind::UnexpectedEof, Tls::AlertReceived(Alert::UnknownCA));
        assert!(ended_after_handshake(&alert).is_none(), "the alert says more");
        assert!(ended_after_handshake(&io::Error::other("a login that is refused")).is_none());
        assert_eq!(explain(&io::Error::other("reset"), "broker"), None);
        assert_eq!(explain(&io::Error::from(io::ErrorKind::ConnectionRefused), "broker"), None);
    }

    #[test]
    fn a_file_that_is_of_no_use_is_refused_by_its_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no PEM").unwrap();
        let shown = file.path().display().to_string();
        assert_eq!(certificates(file.path()).unwrap_err(), format!("{shown} holds no certificate; use a PEM file"));
        assert!(private_key(file.path()).unwrap_err().starts_with(&format!("{shown} holds no private key")));
        assert!(certificates(Path::new("/none")).unwrap_err().starts_with("/none cannot be read"));
        std::fs::write(file.path(), vec![b'x'; MAX_FILE_BYTES as usize + 1]).unwrap();
        assert!(private_key(file.path()).unwrap_err().contains("is over 1048576 bytes"));
    }
}
