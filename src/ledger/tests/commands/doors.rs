//! Where `serve` listens: everything off loopback is TLS, and a certificate is whole or not there.

use crate::books::{Place, said};
use crate::process::Process;
use rcgen::{CertificateParams, KeyPair};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Certificate, key and authority in a folder.
fn files() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["tollgate-ledger".to_owned()]).unwrap().self_signed(&key).unwrap();
    for (name, text) in [("tls.crt", own.pem()), ("tls.key", key.serialize_pem()), ("ca.crt", own.pem())] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn serve(folder: &TempDir, options: &[&str]) -> Command {
    let mut command = Place::file(folder, "ledger.db").command("serve");
    command.args(["--exit-with-stdin"]).args(options).env("TOLLGATE_MASTER_KEY", "k".repeat(32));
    for variable in ["GRPC", "ADMIN", "METRICS", "TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA"] {
        command.env_remove(format!("TOLLGATE_LEDGER_{variable}"));
    }
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    command
}

const LOOPBACK: [&str; 4] = ["--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

#[test]
fn what_is_missing_is_named_before_anything_is_served() {
    let folder = files();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [cert, key, ca] = ["tls.crt", "tls.key", "ca.crt"].map(at);
    let gone = at("gone");
    let table: [(&[&str], i32, &str); 9] = [
        (&["--tls-cert", &cert], 1, "--tls-key and --tls-client-ca must be given, too"),
        (&["--tls-cert", &cert, "--tls-key", &key], 1, "--tls-client-ca must be given, too"),
        (&["--tls-client-ca", &ca], 1, "--tls-cert and --tls-key must be given, too"),
        (&["--tls-cert", &cert, "--tls-key", &gone, "--tls-client-ca", &ca], 1, "/gone: No such file"),
        (&["--tls-cert", &cert, "--tls-key", &ca, "--tls-client-ca", &ca], 1, "/ca.crt: "),
        (&["--grpc", "0.0.0.0:0"], 1, "off loopback the ledger wants TLS"),
        (&["--admin", "0.0.0.0:0"], 1, "off loopback the ledger wants TLS"),
        (&["--admin", "[::]:0"], 1, "off loopback the ledger wants TLS"),
        (&["--insecure", "--tls-cert", &cert], 2, "cannot be used with"),
    ];
    for (options, code, why) in table {
        let said = said(serve(&folder, options).output().unwrap(), code);
        assert!(said.contains(why), "{options:?}: {said}");
    }
    let mut by_environment = serve(&folder, &[]);
    let said = said(by_environment.env("TOLLGATE_LEDGER_TLS_KEY", &key).output().unwrap(), 1);
    assert!(said.contains("--tls-cert and --tls-client-ca must be given, too"), "{said}");
}

/// What a `GET` without TLS is answered, if anything.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut answer = Vec::new();
    // A door with TLS ends with an alert, or a reset, which may come before everything is written.
    let _ = write!(stream, "GET {path} HTTP/1.1\r\nhost: l\r\nconnection: close\r\n\r\n");
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn with_certificates_only_the_metrics_are_plain() {
    let folder = files();
    let at = |name: &str| Path::join(folder.path(), name);
    let mut command = serve(&folder, &LOOPBACK);
    command.args(["--metrics", "127.0.0.1:0"]).env("TOLLGATE_LEDGER_TLS_CERT", at("tls.crt"));
    command.env("TOLLGATE_LEDGER_TLS_KEY", at("tls.key")).env("TOLLGATE_LEDGER_TLS_CLIENT_CA", at("ca.crt"));
    let ledger = Process::start(command).unwrap();
    for path in ["/health/readiness", "/health/liveness", "/metrics"] {
        let answer = get(&ledger.metrics, path);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    let answer = get(&ledger.grpc, "/");
    assert!(!answer.starts_with("HTTP"), "{answer}");
    ledger.close();
}

#[test]
fn a_trusted_network_is_said_to_be_one() {
    let folder = files();
    let options = ["--insecure", "--grpc", "0.0.0.0:0", "--admin", "0.0.0.0:0"];
    let ledger = Process::start(serve(&folder, &options)).unwrap();
    let (_, port) = ledger.grpc.rsplit_once(':').unwrap();
    TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    assert_eq!(ledger.metrics, "none");
    ledger.close();
}
